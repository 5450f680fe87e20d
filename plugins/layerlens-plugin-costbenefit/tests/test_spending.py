"""What must hold for any instance: the limits, and what weights do to what is spent."""

from hypothesis import assume, given
from hypothesis import strategies as st

from costbenefit_instances import (
    chosen,
    dearest,
    decide,
    instances,
    limits,
    several_limits,
    several_weights,
    spent,
    weights,
)
from costbenefit_reference import next_on_hull


@given(instances(copies=3), limits, weights, weights)
def test_the_limit_is_never_exceeded(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    if bounds.params is not None:
        assert spent(decisions) <= bounds.params


@given(instances(copies=2, resources=True, deep=True), several_limits, several_weights)
def test_none_of_several_limits_is_ever_exceeded(candidates, bounds, given_weights):
    assume(candidates.base(None).within(bounds))
    decisions = decide(candidates, bounds, **given_weights)
    total = candidates.total(decisions)
    for name, bound in bounds.bounds.items():
        assert getattr(total, name) <= bound


@given(instances(), limits)
def test_free_of_cost_weight_it_spends_until_no_step_fits_or_gains(candidates, bounds):
    decisions = decide(candidates, bounds, cost=0)
    left = (bounds.params if bounds.params is not None else dearest(candidates)) - spent(decisions)
    for unit_, pick in zip(candidates.units, chosen(candidates, decisions), strict=True):
        following = next_on_hull(unit_, pick)
        assert following is None or following.parameters - pick.parameters > left


@given(instances())
def test_free_of_cost_weight_and_budget_every_unit_gets_its_best(candidates):
    picks = chosen(candidates, decide(candidates, cost=0))
    assert [pick.gain for pick in picks] == [max(c.gain for c in unit_.candidates) for unit_ in candidates.units]


@given(instances(copies=3), limits, weights, st.tuples(weights, weights))
def test_a_higher_cost_weight_never_spends_more(candidates, bounds, utility, costs):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for cost in sorted(costs))
    assert spent(high) <= spent(low)
    for dear, cheap in zip(high, low, strict=True):
        assert dear.parameters <= cheap.parameters


@given(instances(copies=3), limits, weights, st.tuples(weights, weights))
def test_a_higher_utility_weight_never_spends_less(candidates, bounds, cost, utilities):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for utility in sorted(utilities))
    assert spent(low) <= spent(high)
