"""Shares of the fall in loss: the formula, a real fall, and a model that is as it was."""

import math

import pytest
import torch

import zoo
from layerlens_builtin.metrics.loss_change import FEWEST_SAMPLES, RECIPE, score
from layerlens_core.errors import DataError, NonFiniteError
from layerlens_core.plugin import (
    Falls,
    WarmUpRecipe,
    lora_layers,
    per_sample_losses,
    temporary_lora,
    untouched,
    warm_up,
)
from layerlens_core.profiling.profile import profile
from layerlens_core.profiling.samples.sample import collate
from zoo.profiled import active_profile, build, samples

FAMILIES = ("llama", "gpt2", "albert", "t5", "bert-classifier")


def watched(given, recipe, *, repeat=0):
    watch = Falls()
    with untouched(given.model):
        warm_up(given, given.samples, recipe, watch, of="loss_change's warm-up", repeat=repeat, repeats=1)
    return watch.falls


def trained_by_hand(given, recipe):
    """The same warm-up, written out: clipped gradients, AdamW in full, and the sum of the formula in float64."""
    torch.manual_seed(given.seed)
    generator = torch.Generator().manual_seed(given.seed)
    order = torch.randperm(len(given.samples), generator=generator).tolist()
    falls = dict.fromkeys(given.modules, 0.0)
    with (
        untouched(given.model),
        temporary_lora(given.model, dict.fromkeys(given.modules, recipe.rank), scale=recipe.scale) as tuned,
    ):
        layers = lora_layers(tuned)
        parts = {
            name: [layers[name].lora_A["default"].weight, layers[name].lora_B["default"].weight]
            for name in given.modules
        }
        everything = [part for pair in parts.values() for part in pair]
        first, second = ([torch.zeros_like(part) for part in everything] for _ in range(2))
        for step in range(recipe.steps):
            batch = collate([given.samples[i] for i in order[step * recipe.batch : (step + 1) * recipe.batch]], 0)
            loss = per_sample_losses(given.model, batch, given.task).mean()
            gradients = torch.autograd.grad(loss, everything)
            norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
            owner = [name for name, pair in parts.items() for _ in pair]
            for at, (part, gradient) in enumerate(zip(everything, gradients, strict=True)):
                clipped = gradient * min(1.0, recipe.clip / (norm + 1e-6))
                first[at] = 0.9 * first[at] + 0.1 * clipped
                second[at] = 0.999 * second[at] + 0.001 * clipped**2
                mean, spread = first[at] / (1 - 0.9 ** (step + 1)), second[at] / (1 - 0.999 ** (step + 1))
                move = -recipe.rate * min(1.0, (step + 1) / recipe.rising) * mean / (spread.sqrt() + 1e-8)
                falls[owner[at]] -= float((gradient.double() * move.double()).sum())
                with torch.no_grad():
                    part += move
    return falls


@pytest.mark.parametrize("clip", [1.0, 1e-3])
def test_falls_are_those_of_a_run_that_is_written_out(clip):
    given = active_profile(zoo.find("llama"), count=12)
    recipe = WarmUpRecipe(rank=2, batch=4, steps=3, rising=2, clip=clip)
    expected = trained_by_hand(given, recipe)
    found = watched(given, recipe)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * max(map(abs, expected.values())))
    assert sum(found.values()) > 0


def test_of_small_steps_the_falls_add_up_to_the_fall_of_the_loss():
    given = active_profile(zoo.find("llama"), count=8)
    recipe = WarmUpRecipe(batch=8, steps=8, rising=1, rate=1e-4, epochs=8)
    losses = []

    class Watch(Falls):
        def before(self, adapters, loss):
            super().before(adapters, loss)
            self.note()

        def after(self, adapters):
            super().after(adapters)
            self.note()

        @torch.no_grad()
        def note(self):
            losses.append(float(per_sample_losses(given.model, collate(given.samples, 0), given.task).mean()))

    watch = Watch()
    with untouched(given.model):
        warm_up(given, given.samples, recipe, watch, of="loss_change's warm-up", repeat=0, repeats=1)
    assert sum(watch.falls.values()) == pytest.approx(losses[0] - losses[-1], rel=0.05)
    assert losses[0] - losses[-1] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_shares_of_every_repeat_add_up_to_one_and_memory_does_not_show(name):
    one = score(active_profile(zoo.find(name), micro_batch=2))
    other = score(active_profile(zoo.find(name), micro_batch=12))
    assert len(one) == 3
    for shares, again in zip(one, other, strict=True):
        assert math.fsum(shares.values()) == pytest.approx(1)
        assert shares == pytest.approx(again, abs=1e-3)
    assert one[0] != one[1]


def test_progress_goes_from_the_first_step_to_the_last():
    reports = []
    score(active_profile(zoo.find("llama"), count=24, progress=lambda done, total: reports.append((done, total))))
    steps = 3 * RECIPE.steps_on(8)
    assert reports == [(step + 1, steps) for step in range(steps)]


def test_few_samples_are_not_gone_through_often():
    assert [RECIPE.steps_on(count) for count in (4, 8, 24, 80, 1000)] == [4, 4, 12, 35, 35]


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match=f"loss_change needs at least {FEWEST_SAMPLES} samples with labels"):
        score(active_profile(zoo.find("llama"), count=FEWEST_SAMPLES - 1))


def test_a_loss_that_is_no_number_is_told():
    given = active_profile(zoo.find("llama"))
    with torch.no_grad():
        given.model.lm_head.weight[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match="the loss of loss_change's warm-up is nan in step 0"):
        score(given)


def test_a_profile_holds_scores_of_modules_with_errors_of_modules_and_layers():
    family = zoo.find("llama")
    run = profile(build(family, torch.float32), samples(family, count=16), metrics=["loss_change"])
    (scores,) = run.scores
    assert scores.granularity == "module"
    assert set(scores.values) == {module.name for module in run.inventory.modules}
    assert math.fsum(scores.by_layer(run.inventory).values()) == pytest.approx(1)
    assert set(scores.errors) == set(scores.values) | {layer.name for layer in run.inventory.layers}
    assert all(error > 0 for error in scores.errors.values())
