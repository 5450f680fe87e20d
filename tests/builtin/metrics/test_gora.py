"""GoRA's importance, against the formula in float64, beside its cheaper sibling; and its stability, by halves."""

import attrs
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from scipy.stats import spearmanr

import zoo
from layerlens_builtin.metrics.gora import FEWEST_SAMPLES, halves, importance, score
from layerlens_core.allocation.allocate import allocate
from layerlens_core.plugin import HalvedScores, mean_gradients, plain_weight
from layerlens_core.profiling.profile import profile
from zoo.profiled import PROFILED, active_profile, build, reference, samples


def slow(given, chosen):
    """Mean |W ⊙ Ḡ| of these samples, by one plain backward pass a sample and a loop over entries."""
    truth, found = reference(given.model, list(given.modules), list(chosen)), {}
    for module in given.inventory.modules:
        weight = given.model.get_submodule(module.name).weight.detach()
        weight = weight.T if module.kind == "conv1d" else weight
        mean = truth[module.name].mean(dim=0)
        total = sum(abs(float(w) * float(g)) for w, g in zip(weight.flatten(), mean.flatten(), strict=True))
        found[module.name] = total / (module.in_features * module.out_features)
    return found


@pytest.mark.parametrize("name", PROFILED)
def test_it_is_the_mean_of_weights_times_mean_gradients(name):
    given = active_profile(zoo.find(name), count=7)
    found = score(given)
    assert found.scores == pytest.approx(slow(given, given.samples), rel=1e-9)
    for part, of_half in zip(halves(list(given.samples), given.seed), found.halves, strict=True):
        assert of_half == pytest.approx(slow(given, part), rel=1e-9)


@pytest.mark.parametrize("name", PROFILED)
def test_halves_change_nothing_but_rounding_of_the_whole(name):
    given = active_profile(zoo.find(name), count=9)
    plain = {module: importance(plain_weight(given, module), mean) for module, mean in mean_gradients(given)}
    assert score(given).scores == pytest.approx(plain, rel=1e-12)


@drawn(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_halves_share_the_samples_and_their_lengths(lengths, seed):
    given = [{"input_ids": torch.full((length,), number)} for number, length in enumerate(lengths)]
    parts = halves(given, seed)
    numbers = [[int(sample["input_ids"][0]) for sample in part] for part in parts]
    assert sorted(numbers[0] + numbers[1]) == list(range(len(lengths)))
    assert abs(len(numbers[0]) - len(numbers[1])) <= 1
    totals = [sum(lengths[number] for number in part) for part in numbers]
    assert abs(totals[0] - totals[1]) <= max(lengths)
    assert [[int(each["input_ids"][0]) for each in part] for part in halves(given, seed)] == numbers


def test_halves_are_drawn():
    given = samples(zoo.find("llama"), count=16)
    found = {tuple(id(sample) for sample in halves(given, seed)[0]) for seed in range(8)}
    assert len(found) > 4


def test_the_profile_tells_how_alike_halves_rank_layers_and_modules():
    family = zoo.find("bert-classifier")
    run = profile(build(family), samples(family, count=16), metrics=["gora"], seed=3)
    given = active_profile(family, count=16, seed=3, granularity="module")
    one, other = (slow(given, part) for part in halves(list(given.samples), 3))
    modules = list(one)
    assert run.module_stability == {"gora": pytest.approx(spearmanr([*one.values()], [*other.values()])[0], abs=1e-9)}
    layers = [attrs.evolve(run.scores[0], values={m: half[m] for m in modules}).by_layer(run.inventory)
              for half in (one, other)]  # fmt: skip
    by_layer = [list(each.values()) for each in layers]
    expected = {} if len(by_layer[0]) < 3 else {"gora": pytest.approx(spearmanr(*by_layer)[0], abs=1e-9)}
    assert run.stability == expected
    assert run.scores[0].errors == {}


@pytest.mark.parametrize("labelled", [2, FEWEST_SAMPLES - 1, FEWEST_SAMPLES])
def test_few_samples_with_labels_tell_no_stability_and_plans_are_uniform(labelled):
    family = zoo.find("llama")
    chosen = samples(family, count=labelled + 3)
    for sample in chosen[labelled:]:
        sample["labels"] = torch.full_like(sample["labels"], -100)
    given = active_profile(family, samples=tuple(chosen))
    assert isinstance(score(given), HalvedScores) == (labelled >= FEWEST_SAMPLES)
    run = profile(build(family), chosen, metrics=["gora"])
    assert (run.module_stability == {}) == (labelled < FEWEST_SAMPLES)
    assert "fewer than 16" in allocate(run, budget="params=r=2").abstained


def test_samples_that_cancel_count_for_weight_gradient_and_not_here():
    """Groups of two give mean |W ⊙ ḡ|, which no mean over more samples exceeds."""
    family = zoo.find("llama")
    run = profile(build(family), samples(family, count=8), metrics=["weight_gradient", "gora"])
    groups, whole = run.scores
    assert all(whole.values[name] < groups.values[name] for name in groups.values)
    one = profile(build(family), samples(family, count=2), metrics=["weight_gradient", "gora"])
    groups, whole = one.scores
    assert whole.values == pytest.approx(groups.values, rel=1e-6)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_in_fewer_bits_it_is_nearly_the_same(dtype, rel):
    given = active_profile(zoo.find("llama"))
    exact = score(given).scores
    given.model.to(dtype)
    assert score(given).scores == pytest.approx(exact, rel=rel)
