"""Side modules that compute for several arms: compiled, and gone afterwards."""

from contextlib import suppress
from itertools import chain

import pytest
import torch
from attrs import evolve
from torch._dynamo.utils import counters

from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.methods import beside
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.profiling.hooks import compiled
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.values.comparison import Schedule
from zoo.compared import arm, job, mixed, model_and_samples
from zoo.probing import snapshot

SCHEDULE = Schedule(steps=4, batch=4)


@pytest.fixture
def partitioned(monkeypatch):
    """Traced, differentiated and split as the default compiler does it, but run without generated code: quicker."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": "aot_eager_decomp_partition"})


def blocks_of(model):
    """One block after the other, of as many arms: the same LoRA is in both, and the second has side modules beside."""
    lora = job(arm(model, 2), rate=1e-2, schedule=SCHEDULE)
    sides = job(mixed(model, 3, methods=["prefix", "adapter", "adapter"]), rate=3e-2, schedule=SCHEDULE)
    return [lora, job(arm(model, 3), schedule=SCHEDULE)], [lora, sides]


def results(testbed):
    first, second = blocks_of(testbed.model)
    runner = Runner(testbed=testbed)
    return [sorted(runner(jobs), key=lambda result: result.job.id) for jobs in (first, second)]


@pytest.mark.usefixtures("partitioned")
@pytest.mark.parametrize("family", ["llama", "bert-classifier"])
def test_compiled_layers_train_as_others_do(family):
    model, samples, task = model_and_samples(family)
    testbed = prepare_testbed(model, task, samples[4:], samples[:4])
    layers = [layer.name for layer in testbed.inventory.layers]
    expected, found = results(testbed), results(evolve(testbed, layers=layers))
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    for one, other in zip(chain(*found), chain(*expected), strict=True):
        assert one.training == pytest.approx(other.training, rel=1e-5)
        assert one.losses == pytest.approx(other.losses, rel=1e-5)


@pytest.mark.usefixtures("partitioned")
def test_layers_of_one_kind_are_compiled_once():
    model, samples, task = model_and_samples("llama")
    samples = [samples[0]] * 8  # of one length
    testbed = prepare_testbed(model, task, samples[4:], samples[:4], compile=True)
    assert len(testbed.layers) == 3
    jobs = [job(mixed(model, size, methods=["adapter"]), schedule=SCHEDULE) for size in (2, 3)]
    list(Runner(testbed=testbed)(jobs))
    # The first layer, whose input needs no gradient; the others; and all of them where arms are judged.
    assert counters["stats"]["unique_graphs"] == 3


def test_an_error_leaves_the_model_as_it_was():
    model, samples, task = model_and_samples("llama")
    testbed = prepare_testbed(model, task, samples[4:], samples[:4])
    before, kinds = snapshot(model), [type(module) for module in model.modules()]
    with untouched(model), suppress(KeyError), Block.of(testbed, blocks_of(model)[1]).attached(model):
        assert beside._PLACES
        raise KeyError
    assert snapshot(model) == before
    assert [type(module) for module in model.modules()] == kinds
    assert beside._PLACES == {}
