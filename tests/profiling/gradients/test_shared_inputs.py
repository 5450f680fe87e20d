"""Inputs that several modules read are prepared once."""

import pytest
import torch

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine import prepare as engine
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from zoo.profiled import build, reference, samples


def test_memory_that_was_freed_and_used_again_is_no_shared_input():
    shared = SharedInputs()
    tensor = torch.ones(2, 3, 4)
    rows = shared.remember(tensor, Rows(tensor))
    assert shared.find(tensor.detach()) is rows
    assert shared.find(tensor[:, :2]) is None
    assert shared.find(tensor.clone()) is None
    tensor.add_(1)
    assert shared.find(tensor) is None
    address = tensor.data_ptr()
    del tensor, rows
    assert all(torch.ones(2, 3, 4).data_ptr() != address for _ in range(20))  # the entry keeps it


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_shared_inputs_are_prepared_once_and_right(reentrant, monkeypatch):
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=6)
    targets = inspect(model).modules
    if reentrant is not None:
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
    made = []

    class Counted(SharedInputs):
        def remember(self, tensor, rows):
            made.append(rows)
            return super().remember(tensor, rows)

    monkeypatch.setattr(engine, "SharedInputs", Counted)
    measured = measure(
        model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=2, route="group-gram")
    )
    assert len(made) == 3 * 3 * 4  # batches, layers, inputs: of attention, of o_proj, of gate and up, of down_proj
    model.gradient_checkpointing_disable()
    truth = reference(model, [t.name for t in targets], data)
    for statistics in measured.statistics:
        expected = float(truth[statistics.module].square().sum()) / len(data)
        assert statistics.fisher == pytest.approx(expected, rel=1e-10)
