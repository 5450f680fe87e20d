"""How stable a ranking is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from layerlens_core.profiling.engine.stability import (
    errors_of_repeats,
    jackknife,
    rank_correlation,
    split_half,
    split_half_of_errors,
)
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, samples


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=12), st.randoms(use_true_random=False))
def test_rank_correlation_is_scipys(one, draw):
    from scipy.stats import spearmanr

    other = [draw.randint(-5, 5) for _ in one]
    found = rank_correlation(one, other)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)


def test_a_ranking_of_noise_is_not_stable_and_one_of_signal_is():
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(12, 64))
    signal = noise + 10 * np.arange(12)[:, None]
    assert abs(split_half(lambda groups: noise[:, groups].mean(axis=1), 64, seed=0)) < 0.5
    assert split_half(lambda groups: signal[:, groups].mean(axis=1), 64, seed=0) == pytest.approx(1.0)
    assert split_half(lambda groups: [1.0, 2.0, 3.0], 3, seed=0) is None
    assert split_half(lambda groups: [1.0, 1.0, 1.0], 8, seed=0) is None


@given(
    st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=2, max_size=5),
    st.floats(1e-3, 1e3),
)
def test_errors_of_repeats_are_the_units_own_and_at_least_the_common_one(repeats, scale):
    names = "abc"
    found = errors_of_repeats([dict(zip(names, repeat, strict=True)) for repeat in repeats])
    table = np.asarray(repeats) / max(np.abs(repeats).max(), 1e-300)
    own = table.var(axis=0, ddof=1)
    expected = np.sqrt(np.maximum(own, own.mean()) / len(repeats)) * max(np.abs(repeats).max(), 1e-300)
    assert [found[name] for name in names] == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-290)


def test_errors_of_repeats_hold_what_they_say():
    draw = np.random.default_rng(0)
    misses = trials = 0
    for _ in range(200):
        repeats = [{str(at): value for at, value in enumerate(row)} for row in draw.normal(size=(3, 40))]
        means = np.mean([list(repeat.values()) for repeat in repeats], axis=0)
        errors = errors_of_repeats(repeats)
        misses += sum(abs(mean) > 1.96 * errors[str(at)] for at, mean in enumerate(means))
        trials += len(means)
    assert misses / trials < 0.05
    assert errors_of_repeats(repeats[:1]) == {}


def test_a_profile_says_how_stable_its_rankings_are():
    family = zoo.find("llama")
    run = profile(build(family), samples(family, count=9), metrics=("fisher", "weight_gradient", "gradient_energy"))
    assert set(run.stability) == {"fisher", "weight_gradient", "gradient_energy"}
    assert all(-1 <= value <= 1 for value in run.stability.values())
    few = profile(build(family), samples(family, count=5), metrics=["weight_gradient"])
    assert few.stability == {}  # two groups cannot be halved twice


def test_the_jackknife_of_a_mean_is_its_standard_error():
    draw = np.random.default_rng(1)
    noise = draw.normal(size=16)  # as many as there are blocks, so that one group is left out at a time
    errors = jackknife(lambda groups: {"mean": noise[groups].mean()}, 16, seed=0)
    assert errors == {"mean": pytest.approx(noise.std(ddof=1) / 4)}
    assert jackknife(lambda groups: {"mean": 1.0}, 3, seed=0) == {}
    many = draw.normal(size=640)
    (error,) = jackknife(lambda groups: {"ratio": many[groups].mean() / 2}, 640, seed=0).values()
    assert error == pytest.approx(0.5 / 640**0.5, rel=0.4)


def test_stability_from_errors_is_what_halves_would_show():
    draw = np.random.default_rng(2)
    worth = np.linspace(0, 1, 12)
    for error in (0.05, 0.3):
        expected = [split_half_of_errors(worth + error * draw.normal(size=12), [error] * 12, seed=0) for _ in range(40)]
        halves = [
            rank_correlation(*(worth + error * 2**0.5 * draw.normal(size=12) for _ in range(2))) for _ in range(400)
        ]
        assert np.mean(expected) == pytest.approx(np.mean(halves), abs=0.1)


def test_stability_from_errors_of_noise_is_low_and_of_certainty_is_one():
    draw = np.random.default_rng(3)
    noise = [split_half_of_errors(draw.normal(size=12), [1.0] * 12, seed=0) for _ in range(50)]
    assert np.mean(noise) < 0.2
    assert split_half_of_errors([1.0, 2.0, 3.0], [0.0] * 3, seed=0) == pytest.approx(1.0)
    assert split_half_of_errors([1e308, 2.0, -1e308], [1e300] * 3, seed=0) > 0.4
    for values, errors in (([1.0, 2.0], [1.0, 1.0]), ([0.0] * 3, [0.0] * 3), ([2.0] * 3, [0.0] * 3)):
        assert split_half_of_errors(values, errors, seed=0) is None
