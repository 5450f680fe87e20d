"""The ledger: exact sums that know no order, merging, folds; and how stable a ranking is."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_core.profiling.engine.ledger import Entries, Ledger
from layerlens_core.profiling.engine.stability import rank_correlation, split_half
from layerlens_core.profiling.profile import profile
from layerlens_core.values.statistics import STATISTICS

numbers = st.floats(1e-30, 1e30)


def entries(values, group):
    """Numbers of whole groups, all made from one list of values by sample."""
    row = np.array([values])
    groups = row[:, : row.shape[1] // group * group : group]
    return Entries(
        losses=row[0], sample_squared_norms=row, group_mean_squared_norms=groups, weight_gradients=groups * 2
    )


@given(st.lists(numbers, min_size=3, max_size=21), st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_order_and_no_split_of_the_work_shows_in_a_sum(values, group, draw):
    whole = Ledger.empty(["m"], len(values), group, tuple(STATISTICS))
    for unit in whole.missing():
        whole.record([unit], entries([values[i] for i in whole.samples_of(unit)], group))
    first, second = (Ledger.empty(["m"], len(values), group, tuple(STATISTICS)) for _ in range(2))
    units = whole.missing() or list(range(whole.chunks))
    draw.shuffle(units)
    for unit in units:
        part = entries([values[i] for i in whole.samples_of(unit)], group)
        draw.choice([first, second]).record([unit], part)
        first.record([unit], part) if draw.random() < 0.3 else None  # twice changes nothing
    assert set(first.missing()) | set(second.missing()) <= set(units)
    first.merge(second)
    assert first.missing() == []
    assert first.statistics("m", 1) == whole.statistics("m", 1)
    exact = sum(map(Fraction, values))
    assert first.statistics("m", 1).sum_squared_norm == float(exact)
    assert first.loss == pytest.approx(float(exact / len(values)), rel=1e-15)


def test_standard_errors_are_those_of_a_mean():
    draw = random.Random(0)
    values = [draw.lognormvariate(0, 1) for _ in range(40)]
    ledger = Ledger.empty(["m"], 40, 2, tuple(STATISTICS))
    for unit in range(20):
        ledger.record([unit], entries(values[2 * unit : 2 * unit + 2], 2))
    found = ledger.statistics("m", 1)
    assert found.fisher_standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(40), rel=1e-9)
    assert found.gradient_energy_standard_error == pytest.approx(np.std(values[::2], ddof=1) / math.sqrt(20), rel=1e-9)
    assert found.weight_gradient_standard_error == pytest.approx(2 * found.gradient_energy_standard_error, rel=1e-9)
    fold = ledger.statistics("m", 1, groups=[0, 3])
    assert (fold.samples, fold.groups) == (4, 2)
    assert fold.fisher == pytest.approx(math.fsum(values[i] for i in (0, 1, 6, 7)) / 4)


def test_what_no_metric_asked_for_is_not_gathered():
    ledger = Ledger.empty(["m"], 4, 2, ("sample_norms",))
    ledger.record([0, 1], Entries(losses=np.ones(4), sample_squared_norms=np.ones((1, 4))))
    found = ledger.statistics("m", 1)
    assert found.fisher == 1.0
    with pytest.raises(ValueError, match="'gradient_norms' was not gathered"):
        _ = found.gradient_energy
    with pytest.raises(ValueError, match="different modules"):
        ledger.merge(Ledger.empty(["n"], 4, 2, ()))


@settings(deadline=None)
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


def test_a_profile_says_how_stable_its_rankings_are(named_family, build, samples):
    family = named_family("llama")
    run = profile(build(family), samples(family, count=9), metrics=("fisher", "weight_gradient", "gradient_energy"))
    assert set(run.stability) == {"fisher", "weight_gradient", "gradient_energy"}
    assert all(-1 <= value <= 1 for value in run.stability.values())
    assert profile(build(family), samples(family, count=5)).stability == {}  # two groups cannot be halved twice
