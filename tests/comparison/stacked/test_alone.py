"""Arms that are not stacked: where samples may meet, AdaLoRA and all weights, on the same batches as stacked ones."""

import pytest
import torch
from attrs import evolve

from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.schedule import order
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.profiling.attribution.establish import ALONE
from layerlens_core.profiling.samples.sample import collate
from layerlens_core.values.comparison import Schedule
from zoo.compared import arm, job, model_and_samples, tuned
from zoo.probing import snapshot

SCHEDULE = Schedule(steps=12, batch=4)


@pytest.fixture(params=["llama", "bert-classifier"])
def testbed(request):
    model, samples, task = model_and_samples(request.param)
    return prepare_testbed(model, task, samples[4:], samples[:4])


def sides(testbed):
    """An adapter and a prefix in the first layer, LoRA in the last."""
    first, last = testbed.inventory.layers[0], testbed.inventory.layers[-1]
    sizes = {
        "adapter": {writer.name: 4 for writer in first.writers},
        "prefix": {attention.name: 3 for attention in first.attentions},
        "lora": {module.name: 2 for module in last.modules},
    }
    return evolve(arm(testbed.model, 1), sizes=sizes)


def meeting(testbed):
    """The same, as if its samples met in a batch, so that nothing is stacked."""
    return evolve(testbed, established=ALONE)


def results(testbed, *jobs):
    return {result.job.id: result for result in Runner(testbed=testbed)(list(jobs))}


def test_other_methods_train_and_are_gone_afterwards(testbed):
    one, lora = job(sides(testbed), rate=2e-2, schedule=SCHEDULE), job(arm(testbed.model, 2), schedule=SCHEDULE)
    still = job(sides(testbed), rate=0.0, schedule=SCHEDULE)
    before = snapshot(testbed.model)
    found = results(meeting(testbed), one, lora, still)
    assert snapshot(testbed.model) == before
    assert found[one.id].stacked == 1
    assert found[one.id].training[-1] < found[still.id].training[-1]
    # Without a rate both are the model itself, on the same batches.
    frozen = job(arm(testbed.model, 2), rate=0.0, schedule=SCHEDULE)
    assert found[still.id].training == pytest.approx(results(testbed, frozen)[frozen.id].training, rel=1e-5)


def test_they_train_as_a_plain_loop_does(testbed):
    one = job(sides(testbed), rate=2e-2, schedule=Schedule(steps=5, batch=4, clip=0.0))
    found = results(meeting(testbed), one)[one.id]
    assert found.stacked == 1
    fresh = model_and_samples("llama" if testbed.task == "causal-lm" else "bert-classifier")[0]
    wrapped = tuned(fresh, one)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=2e-2, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(order(testbed.training, one.schedule, one.seed)):
        optimizer.param_groups[0]["lr"] = 2e-2 * (5 - step) / 5
        loss = wrapped(**collate([testbed.training[i] for i in batch], 1)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert found.training == pytest.approx(losses, rel=1e-4)


def test_adalora_ends_with_fewer_ranks_and_full_fine_tuning_leaves_no_trace(testbed):
    modules = {module.name: 2 for module in testbed.inventory.modules}
    adalora = job(evolve(arm(testbed.model, 2), tuner="adalora", sizes={"lora": modules}), schedule=SCHEDULE)
    full = job(evolve(arm(testbed.model, 2), tuner="full", sizes={"full": modules}), rate=1e-3, schedule=SCHEDULE)
    before = snapshot(testbed.model)
    found = results(testbed, adalora, full)
    assert snapshot(testbed.model) == before
    for one in (adalora, full):
        assert not found[one.id].diverged
        assert found[one.id].training[-1] < found[one.id].training[0]


def test_a_model_in_few_bits_trains_all_weights_in_float32():
    model, samples, task = model_and_samples("llama", dtype=torch.bfloat16)
    testbed = prepare_testbed(model, task, samples[4:], samples[:4])
    modules = {module.name: 1 for module in testbed.inventory.modules}
    # Steps of this size vanish in bfloat16.
    all_of_it = evolve(arm(model, 1), tuner="full", sizes={"full": modules})
    full, still = (job(all_of_it, rate=rate, schedule=Schedule(steps=200, batch=4)) for rate in (1e-5, 0.0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = results(testbed, full, still)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found[full.id].training[-1] < found[still.id].training[-1]


def nothing(testbed):
    return evolve(arm(testbed.model, 1), name="none", sizes={}, parameters=0)


def test_an_arm_that_trains_nothing_trains_the_head_alone_stacked_or_not(testbed, monkeypatch):
    still, one = (job(nothing(testbed), rate=rate, schedule=SCHEDULE) for rate in (0.0, 2e-2))
    before = snapshot(testbed.model)
    found = results(testbed, still, one)
    assert snapshot(testbed.model) == before
    frozen = job(arm(testbed.model, 1), rate=0.0, schedule=SCHEDULE)
    model_itself = results(testbed, frozen)[frozen.id]
    assert found[still.id].losses == pytest.approx(model_itself.losses, rel=1e-5)
    monkeypatch.setattr("layerlens_core.comparison.stacked.runner.why_not_stackable", lambda *_: "it is not to be")
    alone = results(testbed, still, one)
    assert snapshot(testbed.model) == before
    for each in (still, one):
        assert alone[each.id].losses == pytest.approx(found[each.id].losses, rel=1e-4)
    if testbed.inventory.heads:
        assert found[one.id].training[-1] < found[still.id].training[-1]
    else:
        assert found[one.id].losses == found[still.id].losses
        assert found[one.id].training == ()


def test_without_a_head_it_lengthens_nobodys_batches(testbed):
    none, lora = (job(each, schedule=SCHEDULE) for each in (nothing(testbed), arm(testbed.model, 1)))
    assert [len(block) for block in Runner(testbed=testbed).blocks([none, lora])] == (
        [2] if testbed.inventory.heads else [1, 1]
    )


def test_lora_that_starts_by_rank_is_the_same_stacked_and_alone(testbed):
    names = [module.name for module in testbed.inventory.layers[0].modules][:2]
    uneven = evolve(arm(testbed.model, 1), sizes={"lora": dict(zip(names, (1, 8), strict=True))}, start="by-rank")
    one, plain = (
        job(uneven, rate=2e-2, schedule=SCHEDULE),
        job(evolve(uneven, start="random"), rate=2e-2, schedule=SCHEDULE),
    )
    stacked, alone = results(testbed, one, plain), results(meeting(testbed), one)
    assert stacked[one.id].training == pytest.approx(alone[one.id].training, rel=1e-5)
    assert stacked[one.id].training != pytest.approx(stacked[plain.id].training, rel=1e-5)
