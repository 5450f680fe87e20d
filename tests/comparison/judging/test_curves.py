"""How many times the parameters, and which budget is enough."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.runs import crossed
from layerlens_core.comparison.judging.curves import Curve, Times, smallest_sufficient
from layerlens_core.errors import ComparisonError

SIZES = (100, 200, 400, 800, 1600)
FALLING = Curve(SIZES, (2.0, 1.9, 1.8, 1.7, 1.6))
PROPERTY = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize("halvings", [-1.0, -0.4, 0.3, 1.0, 1.7])
def test_on_a_straight_line_a_factor_is_a_power_of_two(halvings):
    found = FALLING.times(1.8 - 0.1 * halvings, 400)
    assert found.bound == "exactly"
    assert found.times == pytest.approx(2**halvings)


def test_beyond_what_was_trained_only_a_bound_is_told():
    assert FALLING.times(1.5, 400) == Times(times=4.0, bound="more")
    assert FALLING.times(2.1, 400) == Times(times=0.25, bound="less")
    assert FALLING.times(1.5, 3200) == Times(times=0.5, bound="more")


def test_an_arm_smaller_than_any_uniform_is_compared_all_the_same():
    assert FALLING.times(1.9, 20).times == pytest.approx(10)
    assert FALLING.times(2.0, 20) == Times(times=5.0)
    assert FALLING.times(2.3, 20) == Times(times=5.0, bound="less")


def test_where_more_parameters_overfit_a_better_arm_is_not_worth_fewer():
    rising = Curve(SIZES, (2.0, 1.7, 1.6, 1.65, 1.7))
    assert rising.times(1.64, 800) == Times(times=2.0, bound="more")
    assert rising.times(1.66, 800).times < 1
    assert rising.times(1.75, 100).times == pytest.approx(math.exp(_crossing(rising, 1.75, 100, 200)) / 100)


def _crossing(curve, loss, low, high):
    """By bisection: where a falling piece has a loss, as the logarithm of parameters."""
    low, high = math.log(low), math.log(high)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if curve.loss(math.exp(middle)) > loss else (low, middle)
    return low


@PROPERTY
@given(st.lists(st.floats(0.01, 0.5), min_size=2, max_size=6), st.integers(50, 5000), st.floats(0.3, 2.2))
def test_on_any_falling_curve_the_multiple_has_the_loss(steps, parameters, loss):
    losses = 2 - np.cumsum(steps) / len(steps)
    curve = Curve([100 * 2**n for n in range(len(steps))], losses)
    found = curve.times(loss, parameters)
    if found.bound == "exactly":
        assert curve.loss(found.times * parameters) == pytest.approx(loss, abs=1e-6)
    else:
        assert loss < losses[-1] if found.bound == "more" else loss > losses[0]


def test_the_interval_of_a_factor_turns_round_and_holds_one_where_the_difference_holds_zero():
    found = FALLING.factor(1.79, 1.78, 1.81, 400)
    assert found.low.times < 1 < found.estimate.times < found.high.times
    assert found.high.times == pytest.approx(2**0.2)
    assert FALLING.factor(1.65, 1.55, 1.72, 400).high == Times(times=4.0, bound="more")


def test_two_arms_of_one_size_count_as_their_mean():
    assert Curve((100, 100, 200), (2.0, 1.8, 1.5)).losses == (1.9, 1.5)


@pytest.mark.parametrize(("sizes", "losses"), [((100,), (2.0,)), ((100, 100), (2.0, 1.0)), ((1, 2), (2.0, math.inf))])
def test_a_curve_needs_two_points(sizes, losses):
    with pytest.raises(ComparisonError, match="two budgets"):
        Curve(sizes, losses)


def budgets(means, noise):
    random = np.random.default_rng(3)
    hard = random.normal(0, 0.3, 80)
    return [
        (f"r={2**n}", 100 * 2**n, hard + crossed(3, 80, mean=mean, of_cells=noise, of_seeds=noise / 9, random=random))
        for n, mean in enumerate(means)
    ]


def test_the_smallest_budget_within_the_tolerance_is_enough_and_surely_so_where_it_is_shown():
    found = smallest_sufficient("uniform", budgets((2.2, 2.05, 2.004, 2.0), 1e-3), np.ones(80))
    assert (found.best, found.enough, found.surely) == ("r=8", "r=4", "r=4")
    assert [each.budget for each in found.budgets] == ["r=1", "r=2", "r=4", "r=8"]
    assert found.budgets[-1].ratio == 1
    assert found.budgets[2].ratio < found.budgets[2].most <= 1.01
    assert smallest_sufficient("a", budgets((2.2, 2.05, 2.004, 2), 1e-3), np.ones(80), tolerance=0.05).enough == "r=2"


def test_what_is_enough_by_chance_is_not_sure():
    found = smallest_sufficient("uniform", budgets((2.2, 2.015, 2.0), 0.3), np.ones(80))
    assert found.surely is None


def test_one_seed_is_never_sure():
    own = [(name, size, losses[:1]) for name, size, losses in budgets((2.2, 2.0, 2.0), 1e-3)]
    found = smallest_sufficient("uniform", own, np.ones(80))
    assert (found.enough, found.surely) == ("r=2", None)


def test_no_budget_is_refused():
    with pytest.raises(ComparisonError, match="no budget"):
        smallest_sufficient("uniform", [], np.ones(80))
