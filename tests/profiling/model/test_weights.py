"""Models that accelerate spread or offloaded (`device_map`): the numbers of the whole model, on a CPU."""

import accelerate
import pytest
import torch

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.model.weights import digest
from layerlens_core.profiling.profile import profile
from layerlens_core.values.statistics import STATISTICS
from zoo.profiled import build, samples


def spread(model, how, folder):
    if how == "offloaded":  # every weight waits elsewhere until its module runs
        return accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    parts = [name for name, _ in model.named_children() if name != "model"]
    parts += [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
    layers = {f"model.layers.{at}": "disk" if at else "cpu" for at in range(len(model.model.layers))}
    return accelerate.dispatch_model(
        model, {**dict.fromkeys(parts, "cpu"), **layers}, main_device="cpu", offload_dir=str(folder), force_hooks=True
    )


@pytest.mark.parametrize("micro_batch", [1, 4])
@pytest.mark.parametrize("how", ["offloaded", "on disk"])
def test_an_offloaded_model_gives_the_numbers_of_a_whole_one(tmp_path, how, micro_batch):
    family = zoo.find("llama")
    whole, data = build(family), samples(family)
    targets = inspect(whole).modules
    options = {"needs": tuple(STATISTICS), "directions": True, "rank": 4, "micro_batch": micro_batch}
    expected = measure(whole, targets, data, family.task, Settings(**options))
    model = spread(build(family), how, tmp_path)
    assert any(parameter.is_meta for parameter in model.parameters())
    found = measure(model, targets, data, family.task, Settings(**options), Execution(run=tmp_path))
    assert found.statistics == expected.statistics
    assert found.loss == expected.loss
    assert found.subspace.keys() == expected.subspace.keys()
    for name, pair in expected.subspace.items():
        assert all((ours == theirs).all() for ours, theirs in zip(found.subspace[name], pair, strict=True))


def test_a_whole_profile_of_an_offloaded_model(tmp_path):
    family = zoo.find("llama")
    expected = profile(build(family), samples(family), metrics=("fisher", "weight_gradient"))
    found = profile(spread(build(family), "on disk", tmp_path), samples(family), metrics=("fisher", "weight_gradient"))
    assert [scores.values for scores in found.scores] == [scores.values for scores in expected.scores]
    assert found.inventory == expected.inventory
    assert found.activations == expected.activations  # weights that were fetched are none


def test_a_digest_knows_one_changed_weight_and_no_device():
    family = zoo.find("llama")
    first, second = build(family), build(family)
    assert digest(first) == digest(second)
    with torch.no_grad():
        second.model.layers[1].input_layernorm.weight[3] += 1e-6
    assert digest(first) != digest(second)
