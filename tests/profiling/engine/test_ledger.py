"""The ledger: exact sums that know no order, merging, folds."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.profiling.engine.ledger import Entries, Ledger
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
