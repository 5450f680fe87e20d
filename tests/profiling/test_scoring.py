"""Scores come with standard errors where zero means something, and the profile keeps them and tells of stability."""

import numpy as np
import pytest
import torch

import zoo
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import PluginError
from layerlens_core.plugin import HalvedScores, MetricProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.profiling.profile import profile
from layerlens_core.values.profile import Profile
from zoo.profiled import build, samples


def coherence(statistics):
    """A ratio that noise makes negative: the metric of the README."""
    return statistics.mean_gradient_squared_norm / statistics.fisher if statistics.fisher else 0.0


def registry(function, **options):
    found = Registry.discover()
    found.register(MetricProvider(name="mine", summary="", unit="1", load=lambda: function, **options))
    return found


def profiled(function, *, count=16, **options):
    family = zoo.find("llama")
    return profile(
        build(family), samples(family, count=count), metrics=["mine"], registry=registry(function, **options)
    )


def test_a_passive_metric_that_is_negative_somewhere_gets_errors_of_modules_and_layers():
    run = profiled(coherence, needs=("gradient_norms",), reduction="mean")
    (scores,) = run.scores
    assert min(scores.values.values()) < 0
    assert set(scores.errors) == set(scores.values) | set(scores.by_layer(run.inventory))
    assert all(error > 0 for error in scores.errors.values())


def test_one_that_is_nowhere_negative_is_left_as_it_is():
    (scores,) = profiled(lambda statistics: statistics.fisher, needs=("sample_norms",), reduction="sum").scores
    assert scores.errors == {}


def test_too_few_groups_for_errors_are_warned_of():
    with pytest.warns(UserWarning, match="mine: scores are negative, and no standard error says"):
        run = profiled(lambda statistics: -statistics.fisher, count=4, needs=("sample_norms",), reduction="sum")
    assert run.scores[0].errors == {}


def test_errors_of_an_active_metric_are_kept_in_the_file_and_tell_the_stability(tmp_path):
    def score(active):
        return {layer: (np.float32(place), 0.125) for place, layer in enumerate(active.scored)}

    run = profiled(score, active=True)
    (scores,) = run.scores
    assert list(scores.errors.values()) == [0.125] * len(scores.values)
    run.save(tmp_path)
    assert Profile.load(tmp_path) == run
    assert run.stability == ({} if len(scores.values) < 3 else {"mine": pytest.approx(1.0, abs=0.2)})


def test_an_active_metric_with_a_reduction_scores_modules(tmp_path):
    def score(active):
        assert active.granularity == "module"
        assert active.units == active.modules
        return {module: (1.0 + place, 0.5) for place, module in enumerate(active.modules)}

    run = profiled(score, active=True, reduction="sum")
    (scores,) = run.scores
    assert list(scores.values) == [each.module for each in run.statistics]
    for layer in run.inventory.layers:
        assert scores.by_layer(run.inventory)[layer.name] == sum(scores.values[each.name] for each in layer.modules)
        assert scores.errors[layer.name] == pytest.approx(0.5 * len(layer.modules) ** 0.5)
    assert set(run.stability) == ({"mine"} if len(run.inventory.layers) > 2 else set())
    run.save(tmp_path)
    assert Profile.load(tmp_path) == run
    assert len(allocate(run, registry=registry(score, active=True, reduction="sum")).decisions) == len(
        run.inventory.layers
    )


@pytest.mark.parametrize("reduction", ["sum", "mean", "weighted_mean"])
def test_repeats_that_move_together_within_a_layer_tell_so_in_the_layers_error(reduction):
    """All modules of a layer go up together: their errors add up, which independent ones would not."""

    def score(active):
        return [dict.fromkeys(active.modules, value) for value in (1.0, 2.0, 6.0)]

    run = profiled(score, active=True, reduction=reduction)
    (scores,) = run.scores
    assert list(scores.values.values()) == pytest.approx([3.0] * len(scores.values))
    error = np.std([1, 2, 6], ddof=1) / 3**0.5
    for layer in run.inventory.layers:
        assert all(scores.errors[module.name] == pytest.approx(error) for module in layer.modules)
        times = len(layer.modules) if reduction == "sum" else 1
        assert scores.errors[layer.name] == pytest.approx(times * error)


@pytest.mark.parametrize("opposed", [False, True])
def test_halves_tell_how_stable_the_order_of_layers_and_modules_is_and_the_plan_abstains_by_it(opposed):
    """The second half ranks as the first does but for two neighbours, or the other way round."""

    def score(active):
        places = {module: float(place) for place, module in enumerate(active.modules)}
        first, second, *others = active.modules
        swapped = {first: 1.0, second: 0.0, **{module: places[module] for module in others}}
        other = {module: -place for module, place in places.items()} if opposed else swapped
        return HalvedScores(scores={module: 2.0 + place for module, place in places.items()}, halves=(places, other))

    run = profiled(score, active=True, reduction="mean")
    (scores,) = run.scores
    count = len(scores.values)
    assert list(scores.values.values()) == [2.0 + place for place in range(count)], "not the halves' mean"
    assert scores.errors == {}
    assert run.module_stability == {"mine": pytest.approx(-1 if opposed else 1 - 6 * 2 / (count * (count**2 - 1)))}
    assert run.stability == {"mine": pytest.approx(-1 if opposed else 1)}
    plan = allocate(run, budget="params=r=4", registry=registry(score, active=True, reduction="mean"))
    if opposed:
        assert "halves of the 16 samples order the modules alike by -1.00 only" in plan.abstained
    else:
        assert plan.abstained is None


def test_halves_of_layers_tell_of_layers_alone():
    def score(active):
        places = {layer: float(place) for place, layer in enumerate(active.scored)}
        return HalvedScores(scores=places, halves=(places, places))

    run = profiled(score, active=True)
    assert run.stability == {"mine": pytest.approx(1)}
    assert run.module_stability == {}


def test_halves_that_tie_throughout_tell_nothing():
    def score(active):
        return HalvedScores(scores=dict.fromkeys(active.modules, 1.0), halves=(dict.fromkeys(active.modules, 1.0),) * 2)

    run = profiled(score, active=True, reduction="mean")
    assert run.stability == run.module_stability == {}


def test_layers_can_be_scored_in_repeats_too_and_one_repeat_tells_no_error():
    run = profiled(lambda active: [dict.fromkeys(active.scored, value) for value in (1.0, 3.0)], active=True)
    assert set(run.scores[0].values.values()) == {2.0}
    assert all(error == pytest.approx(1.0) for error in run.scores[0].errors.values())
    run = profiled(lambda active: [dict.fromkeys(active.scored, 1.0)], active=True)
    assert run.scores[0].errors == {}


def test_an_active_metric_of_noise_makes_a_uniform_plan():
    def score(active):
        return {layer: ((-1) ** place * 0.01, 0.05) for place, layer in enumerate(active.scored)}

    with pytest.warns(UserWarning, match="no layer can be told from 0"):
        run = profiled(score, active=True)
    plan = allocate(run, registry=registry(score, active=True))
    assert len({decision.utility for decision in plan.decisions}) == 1
    assert plan.decisions[0].utility > 0


@pytest.mark.parametrize("given", [None, "0.5", float("nan"), 1j, torch.tensor(1.0)], ids=str)
def test_what_a_metric_gives_instead_of_a_number_is_told_with_the_module(given):
    with pytest.raises(PluginError, match=r"metric 'mine' .* gave .* for model\.layers\.0\."):
        profiled(lambda statistics: given, needs=("sample_norms",), reduction="sum")


def test_a_metric_without_a_reduction_is_refused_before_the_pass():
    with pytest.raises(PluginError, match=r"metric 'mine' .* has no reduction"):
        profiled(coherence, needs=("gradient_norms",))
