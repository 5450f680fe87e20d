"""Scores come with standard errors where zero means something, and the profile keeps them and tells of stability."""

import numpy as np
import pytest
import torch

import zoo
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import PluginError
from layerlens_core.plugin import MetricProvider
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
