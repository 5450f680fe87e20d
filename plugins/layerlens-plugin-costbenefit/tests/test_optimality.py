"""How good the plans are: as the slow reference has them, and against every other plan there is."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costbenefit_instances import (
    chosen,
    dearest,
    decide,
    instances,
    limits,
    lora_units,
    several_weights,
    weights,
)
from costbenefit_reference import next_on_hull, objective, ratio, reference
from layerlens_core.plugin import Limits


@given(instances(units=3, sizes=3), st.integers(0, 50) | st.none(), weights, weights)
@settings(max_examples=60)
def test_no_plan_has_a_higher_objective_where_the_budget_does_not_bind(candidates, slack, utility, cost):
    bounds = Limits(params=max(1, dearest(candidates) + slack) if slack is not None else None)
    plan = chosen(candidates, decide(candidates, bounds, utility=utility, cost=cost))
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(objective(candidates, other, bounds, utility=utility, cost=cost) for other in plans)
    assert objective(candidates, plan, bounds, utility=utility, cost=cost) == best


@given(instances(units=3, sizes=2, resources=True, deep=True), several_weights)
@settings(max_examples=60)
def test_no_plan_has_a_higher_objective_where_every_resource_is_weighed(candidates, given_weights):
    plan = chosen(candidates, decide(candidates, **given_weights))
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(objective(candidates, other, Limits(), **given_weights) for other in plans)
    # What costs nothing of what is weighed is ordered by parameters, at a price of a thousand-millionth.
    assert objective(candidates, plan, Limits(), **given_weights) == pytest.approx(best, abs=1e-7)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4, unique=True), st.integers(1, 60))
@settings(max_examples=60)
def test_under_a_budget_the_loss_against_brute_force_is_less_than_one_step(utilities, budget):
    """The greedy bound: what is missing to the optimum is at most the first step that did not fit."""
    candidates = lora_units(*utilities, most=4)
    plan = chosen(candidates, decide(candidates, Limits(params=budget), cost=0))
    gain = sum(c.gain for c in plan)
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(sum(c.gain for c in other) for other in plans if sum(c.parameters for c in other) <= budget)
    steps = [following.gain - at.gain for at, following in _following(candidates, plan)]
    assert gain <= best + 1e-12
    assert best <= gain + max(steps, default=0.0) + 1e-12


def _following(candidates, plan):
    for unit_, at in zip(candidates.units, plan, strict=True):
        following = next_on_hull(unit_, at)
        if following is not None:
            yield at, following


@given(instances(), limits, weights, weights)
def test_every_choice_lies_on_the_upper_hull(candidates, bounds, utility, cost):
    picks = chosen(candidates, decide(candidates, bounds, utility=utility, cost=cost))
    for unit_, pick in zip(candidates.units, picks, strict=True):
        assert not any(c.parameters <= pick.parameters and c.gain > pick.gain for c in unit_.candidates)
        for low, high in itertools.product(unit_.candidates, repeat=2):
            if low.parameters < pick.parameters < high.parameters:
                chord = Fraction(low.gain) + ratio(low, high) * (pick.parameters - low.parameters)
                assert Fraction(pick.gain) >= chord


@given(instances(copies=3), limits, weights, weights)
def test_decisions_are_those_of_the_slow_reference(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    expected = reference(candidates, bounds, utility, cost)
    got = chosen(candidates, decisions)
    assert [(c.parameters, c.gain) for c in got] == [(c.parameters, c.gain) for c in expected]
