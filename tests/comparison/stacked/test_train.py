"""Blocks of arms: what they may not do to each other, to the model, or to their own results."""

import pytest
import torch
from attrs import evolve

from layerlens_core.comparison.stacked import runner, train
from layerlens_core.comparison.stacked.block import Block, why_not_stackable
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.errors import ModelError
from layerlens_core.profiling.attribution.establish import ALONE
from layerlens_core.profiling.attribution.probe import Rows
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.values.comparison import Schedule
from zoo.compared import arm, job, mixed, model_and_samples
from zoo.probing import snapshot

SCHEDULE = Schedule(steps=6, batch=4)


@pytest.fixture(params=["llama", "bert-classifier"])
def testbed(request):
    model, samples, task = model_and_samples(request.param)
    return prepare_testbed(model, task, samples[4:], samples[:4])


def several(testbed, *, seeds=(0, 0, 0)):
    """LoRA, adapters beside LoRA, and all methods in turn."""
    model = testbed.model
    arms = (
        arm(model, 1),
        mixed(model, 4, methods=["adapter", "lora"]),
        mixed(model, 2, methods=["prefix", "adapter", "lora"]),
    )
    return [
        job(one, rate=rate, seed=seed, schedule=SCHEDULE)
        for one, rate, seed in zip(arms, (5e-3, 2e-2, 1e-2), seeds, strict=True)
    ]


def by_id(results):
    return {result.job.id: result for result in results}


def same(found, expected):
    assert found.keys() == expected.keys()
    for number, result in expected.items():
        assert found[number].training == pytest.approx(result.training, rel=1e-5)
        assert found[number].losses == pytest.approx(result.losses, rel=1e-5)
        assert found[number].right == result.right


def test_an_arm_does_not_know_of_those_beside_it(testbed):
    jobs = several(testbed, seeds=(0, 1, 0))
    same(by_id(Runner(testbed=testbed)(jobs)), by_id(Runner(testbed=testbed, most=1)(jobs)))


def test_the_model_is_left_as_it_was(testbed):
    before = snapshot(testbed.model)
    list(Runner(testbed=testbed)(several(testbed)))
    assert snapshot(testbed.model) == before


def test_a_run_that_diverges_is_told_and_moves_no_other(testbed):
    jobs = several(testbed)
    wild = job(arm(testbed.model, 3), rate=1e30, schedule=SCHEDULE)
    found = by_id(Runner(testbed=testbed)([*jobs, wild]))
    assert found[wild.id].diverged
    assert found[wild.id].losses == ()
    assert found[wild.id].loss(testbed.labels) == float("inf")
    same({one.id: found[one.id] for one in jobs}, by_id(Runner(testbed=testbed)(jobs)))


def test_an_arm_without_a_rate_stays_the_model(testbed):
    still, moved = job(arm(testbed.model, 2), rate=0.0), job(arm(testbed.model, 2), rate=1e-2)
    found = by_id(Runner(testbed=testbed)([still, moved]))
    with torch.no_grad():
        for sample, loss in zip(testbed.held_out, found[still.id].losses, strict=True):
            alone = testbed.model(**{key: value[None] for key, value in sample.items()}).loss.item()
            assert loss == pytest.approx(alone, rel=1e-5)
    assert found[moved.id].losses != pytest.approx(found[still.id].losses, rel=1e-3)


def test_where_memory_runs_out_fewer_arms_run_at_once(testbed, monkeypatch):
    jobs = several(testbed)
    expected = by_id(Runner(testbed=testbed)(jobs))
    real = Training._backward

    def hungry(self, samples, arms):
        losses = real(self, samples, arms)  # the gradients are there already, and must not count twice
        if arms.stop - arms.start > 1 and self.block.running.samples:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    monkeypatch.setattr(Training, "_backward", hungry)
    with untouched(testbed.model):
        training = Training(testbed=testbed, block=Block.of(testbed, jobs), room=Room(3))
        found = by_id(training.run())
    assert training.room.arms == 1
    same(found, expected)


def test_a_block_whose_adapters_do_not_fit_is_halved(testbed, monkeypatch):
    jobs = several(testbed)
    expected = by_id(Runner(testbed=testbed)(jobs))
    real, tried = Block.of, []

    def hungry(testbed, some, *others):
        tried.append(len(some))
        if len(some) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(testbed, some, *others)

    monkeypatch.setattr(Block, "of", hungry)
    same(by_id(Runner(testbed=testbed)(jobs)), expected)
    assert tried == [3, 2, 1, 1, 1]
    monkeypatch.setattr(Block, "of", lambda *_: hungry(testbed, jobs))
    with pytest.raises(ModelError, match="too little memory for a single arm"):
        list(Runner(testbed=testbed)(jobs))


def test_places_are_asked_about_once(testbed, monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "why_not_stackable", lambda _testbed, one: asked.append(one))
    rates = [job(one.arm, rate=rate, schedule=SCHEDULE) for one in several(testbed) for rate in (1e-3, 1e-2, 1e-1)]
    assert [len(block) for block in Runner(testbed=testbed).blocks(rates)] == [9]
    assert len(asked) == 3


def test_an_arm_that_cannot_be_stacked_trains_alone_and_the_reason_is_known(testbed):
    adapters = several(testbed)[1]
    place = next(iter(adapters.arm.sizes["adapter"]))
    rows = {**testbed.established.rows, place: Rows({}, "it folds samples")}
    apart = evolve(testbed, established=evolve(testbed.established, rows=rows))
    assert why_not_stackable(testbed, adapters.arm) is None
    assert why_not_stackable(apart, adapters.arm) == f"{place}: it folds samples"
    assert why_not_stackable(testbed, evolve(adapters.arm, tuner="full")) == "full trains a model of its own"
    experts = evolve(adapters.arm, sizes={"lora-experts": {"a": 2}})
    assert why_not_stackable(testbed, experts) == "lora-experts is not computed for several arms at once"
    found = by_id(Runner(testbed=apart)(several(testbed)))
    assert found[adapters.id].stacked == 1
    same(found, by_id(Runner(testbed=testbed)(several(testbed))))


def test_blocks_are_no_larger_than_memory_is(testbed, monkeypatch):
    jobs = several(testbed)
    monkeypatch.setattr(runner, "free_memory", lambda device: 0)
    assert [len(block) for block in Runner(testbed=testbed).blocks(jobs)] == [1, 1, 1]
    monkeypatch.undo()
    assert [len(block) for block in Runner(testbed=testbed).blocks(jobs)] == [3]


def test_where_one_arm_does_not_fit_the_message_says_what_to_do(testbed, monkeypatch):
    def hungry(*_args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train, "loss_terms", hungry)
    with pytest.raises(ModelError, match="too little memory for a single arm's batch; make the batch"):
        list(Runner(testbed=testbed)(several(testbed)))


def test_where_samples_may_meet_every_arm_has_the_model_for_itself():
    model, samples, task = model_and_samples("llama")
    apart = prepare_testbed(model, task, samples[4:], samples[:4])
    jobs = several(apart)
    expected = by_id(Runner(testbed=apart)(jobs))
    meeting = evolve(apart, established=ALONE)
    before = snapshot(model)
    found = by_id(Runner(testbed=meeting)(jobs))
    assert {result.stacked for result in found.values()} == {1}
    same(found, expected)
    assert snapshot(model) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_train(dtype):
    model, samples, task = model_and_samples("llama", dtype=dtype)
    testbed = prepare_testbed(model, task, samples[4:], samples[:4])
    one = mixed(model, 2, methods=["prefix", "adapter", "lora"])
    still, moved = (job(one, rate=rate, schedule=Schedule(steps=30, batch=4)) for rate in (0.0, 1e-2))
    found = by_id(Runner(testbed=testbed)([still, moved]))
    assert found[moved.id].stacked == 2
    assert found[moved.id].training[-1] < found[still.id].training[-1]


def test_float16_is_refused():
    model, samples, task = model_and_samples("llama", dtype=torch.float16)
    with pytest.raises(ModelError, match="load the model in bfloat16 or float32"):
        prepare_testbed(model, task, samples[4:], samples[:4])
