"""Equal utilities get equal methods, and sizes that differ by one step at most."""

from hypothesis import given
from hypothesis import strategies as st

from costbenefit_instances import (
    candidate_set,
    decide,
    instances,
    limits,
    lora_units,
    ranks,
    several_limits,
    several_weights,
    unit,
    weights,
    widths,
)
from layerlens_core.plugin import Limits


@given(st.integers(1, 6), st.integers(1, 16), st.integers(0, 3))
def test_equal_utilities_give_equal_decisions_where_the_budget_allows(units, rank, left_over):
    candidates = lora_units(*[0.5] * units, price=4)
    decisions = decide(candidates, Limits(params=units * rank * 4 + left_over), cost=0)
    assert [(decision.method, decision.size) for decision in decisions] == [("lora", rank)] * units


@given(st.integers(2, 6), st.integers(4, 300))
def test_equal_utilities_never_differ_by_more_than_one_step(units, budget):
    decisions = decide(lora_units(*[0.5] * units), Limits(params=budget), cost=0)
    sizes = [decision.size for decision in decisions]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert len({decision.method for decision in decisions}) == 1
    assert {decision.method for decision in decisions} == ({"lora"} if budget >= units * 4 else {"none"})


@given(st.integers(2, 5), st.integers(1, 4))
def test_equal_units_grow_together_even_where_every_rank_gains_the_same(units, rank):
    straight = candidate_set(unit(f"L{i}", ranks(0.25, 0.5, 0.75, 1.0)) for i in range(units))
    decisions = decide(straight, Limits(params=units * rank * 4), cost=0)
    assert [decision.size for decision in decisions] == [rank] * units


def _methods_by_utility(candidates, decisions):
    methods = {}
    for unit_, decision in zip(candidates.units, decisions, strict=True):
        methods.setdefault(unit_.utility, set()).add(decision.method)
    return methods.values()


@given(instances(units=2, copies=4), limits, weights, weights)
def test_equal_utilities_always_give_equal_methods(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    assert all(len(methods) == 1 for methods in _methods_by_utility(candidates, decisions))


@given(instances(units=2, copies=4, resources=True), several_limits, several_weights)
def test_equal_utilities_always_give_equal_methods_under_several_limits(candidates, bounds, given_weights):
    decisions = decide(candidates, bounds, **given_weights)
    assert all(len(methods) == 1 for methods in _methods_by_utility(candidates, decisions))


def test_equal_layers_keep_their_method_once_one_of_them_cannot_grow():
    """The second rank fits only once; a cheap step from there to an adapter would have parted the two."""
    candidates = candidate_set(
        unit(f"L{i}", ranks(1.0, 1.9, price=10), widths(1.98, price=1, bias=20), utility=0.5) for i in range(2)
    )
    decisions = decide(candidates, Limits(params=35), cost=0)
    assert [(decision.method, decision.size) for decision in decisions] == [("lora", 2), ("lora", 1)]
