"""The native selector, its pure twin, and quantiles."""

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_native import _threshold, _threshold_py  # type: ignore[attr-defined]
from layerlens_native.threshold import quantile, select

finite = st.floats(allow_nan=False, allow_infinity=False)


def obvious(values, thresholds):
    """How many thresholds lie at or below each value, counted."""
    return [sum(threshold <= value for threshold in thresholds) for value in values]


def test_the_twins_agree_on_ten_thousand_random_cases():
    draw = random.Random(0)
    for _ in range(10_000):
        thresholds = sorted(draw.choice([draw.random(), 0.5, 0.0]) for _ in range(draw.randrange(6)))
        values = [draw.choice([draw.random(), 0.5, *thresholds, 0.0]) for _ in range(draw.randrange(8))]
        native = _threshold.count_at_or_below(array("d", values), array("d", thresholds))
        pure = _threshold_py.count_at_or_below(array("d", values), array("d", thresholds))
        assert native == pure == obvious(values, thresholds)


@given(st.lists(finite, max_size=20), st.lists(finite, max_size=6).map(sorted))
def test_select_counts_thresholds(values, thresholds):
    assert select(values, thresholds) == obvious(values, thresholds)


def test_a_value_on_a_threshold_reaches_the_upper_alternative():
    methods = ["none", "prefix", "adapter", "lora"]
    reached = select([0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06], [0.01, 0.03, 0.05])
    assert [methods[i] for i in reached] == ["none", "prefix", "prefix", "adapter", "adapter", "lora", "lora"]


@pytest.mark.parametrize(
    ("values", "thresholds", "message"),
    [
        ([float("nan")], [0.1], "values must be finite"),
        ([0.1], [float("inf")], "thresholds must be finite"),
        ([0.1], [0.3, 0.2], "must ascend"),
    ],
)
def test_what_cannot_be_ordered_is_refused(values, thresholds, message):
    with pytest.raises(ValueError, match=message):
        select(values, thresholds)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_interpolate_and_stay_between_the_extremes(values, q):
    import numpy

    assert quantile(values, q) == pytest.approx(float(numpy.quantile(values, q)), rel=1e-9, abs=1e-9)
    assert min(values) <= quantile(values, q) <= max(values)


@given(finite, st.integers(1, 20), st.floats(0, 1))
def test_every_quantile_of_equal_values_is_that_value(value, count, q):
    assert quantile([value] * count, q) == value


def test_quantiles_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile([1.0], 1.5)
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
