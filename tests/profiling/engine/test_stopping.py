"""Stopping where the ranking has settled: early on signal, never on noise, and deterministically."""

import numpy as np
import pytest

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.engine.stability import split_half
from layerlens_core.profiling.engine.stopping import SETTLED, settled, stages
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, samples


@pytest.mark.parametrize(("group", "expected"), [(1, [32, 64, 128]), (2, [32, 64, 128]), (3, [30, 63, 126])])
def test_stages_double_and_hold_whole_groups(group, expected):
    assert stages(200, group) == expected
    assert stages(65, group) == expected[:2]
    assert stages(32, group) == []


def test_a_group_larger_than_the_first_stage_is_a_stage():
    assert stages(200, 50) == [50, 100]


def first_settled(scores, samples):
    """The first stage at which scores [layers, samples] settle; all samples where none does."""
    for count in stages(samples, 1):
        found = split_half(lambda groups, n=count: scores[:, :n][:, groups].mean(axis=1), count, seed=0)
        if settled({"metric": found}, 1):
            return count
    return samples


def test_a_strong_signal_settles_early_a_weak_one_late_and_noise_never():
    noise = np.random.default_rng(0).normal(size=(16, 1024))
    levels = np.arange(16)[:, None]
    assert first_settled(noise + 10.0 * levels, 1024) == 32
    assert 32 < first_settled(noise + 0.06 * levels, 1024) < 1024
    assert first_settled(noise, 1024) == 1024


def test_every_metric_must_settle_and_one_without_a_stability_never_does():
    assert settled({"a": 0.95, "b": 1.0}, 2)
    assert not settled({"a": 0.949, "b": 1.0}, 2)
    assert not settled({"a": 1.0}, 2)
    assert SETTLED == 0.95


def test_a_pass_that_stops_early_measures_what_one_on_the_first_samples_does():
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=23)
    targets = inspect(model).modules
    asked = []

    def enough(ledger: Ledger, scored: list[str]) -> bool:
        assert ledger.missing() == []
        assert set(scored) == {target.name for target in targets}
        asked.append(ledger.samples)
        return ledger.samples == 12

    options = {"needs": ("gradient_norms", "weight_gradient", "spectrum"), "directions": True, "rank": 4}
    found = measure(model, targets, data, "causal-lm", Settings(stages=[4, 12, 18, 23], **options), enough=enough)
    assert asked == [4, 12]
    assert found.samples == found.ledger.samples == 12
    expected = measure(model, targets, data[:12], "causal-lm", Settings(**options))
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    for one, other in zip(found.statistics, expected.statistics, strict=True):
        assert (one.samples, one.groups) == (12, 6)
        assert one.fisher == pytest.approx(other.fisher, rel=1e-10)
        assert one.weight_gradient == pytest.approx(other.weight_gradient, rel=1e-10)
        assert one.spectrum == pytest.approx(other.spectrum, rel=1e-8, abs=1e-10 * other.spectrum[0])


def test_a_ranking_that_does_not_settle_takes_all_samples():
    family = zoo.find("bert-classifier")
    found = profile(build(family), samples(family, count=40), metrics=("fisher",), samples="auto", group=1)
    assert found.settings["samples_at_most"] == 40
    assert found.samples == (32 if found.settings["settled"] and found.samples < 40 else 40)
    assert bool(found.settings["settled"]) == (found.stability["fisher"] >= SETTLED)
    again = profile(build(family), samples(family, count=40), metrics=("fisher",), samples="auto", group=1)
    assert again == found
