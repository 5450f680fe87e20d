"""How stable a ranking is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from layerlens_core.profiling.engine.stability import rank_correlation, split_half
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


def test_a_profile_says_how_stable_its_rankings_are():
    family = zoo.find("llama")
    run = profile(build(family), samples(family, count=9), metrics=("fisher", "weight_gradient", "gradient_energy"))
    assert set(run.stability) == {"fisher", "weight_gradient", "gradient_energy"}
    assert all(-1 <= value <= 1 for value in run.stability.values())
    assert profile(build(family), samples(family, count=5)).stability == {}  # two groups cannot be halved twice
