"""At its own budget the run's plan is compared as it is, whatever bounds it, beside uniform of as many parameters."""

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bert_profile import bert_profile
from comparison.arms.random_profiles import profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.budgets import (
    BOUND_UNIFORM,
    bounds_at,
    budget_of,
    is_own,
    other_bounds,
    own_budget,
    told_of_bounds,
)
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.errors import BudgetError
from layerlens_core.values.costs import Activations
from layerlens_core.values.plan import Plan

NAMES = ("uniform", "plan", BOUND_UNIFORM)


def profile(layers=6):
    found = bert_profile([float(i + 1) for i in range(layers)])
    names = [layer.name for layer in found.inventory.layers]
    kept = Activations(through=dict.fromkeys(names, 1e5), adapted=dict.fromkeys(names, 100.0), head=10.0)
    return attrs.evolve(found, activations=kept)


PROFILE = profile()
WHOLE = allocate(PROFILE, budget="params=r=4")
TIGHT = f"memory={0.7 * WHOLE.cost.memory:.0f}B"


def made(plan, budget, of=PROFILE, names=NAMES):
    arms, dropped = make_arms(names, [budget], profile=of, plan=plan)
    return {arm.name: arm for arm in arms}, arms, dropped


def test_r_is_what_uniform_lora_takes():
    assert budget_of("r=4") == budget_of(" R = 4 ") == budget_of("params=r=4")
    assert budget_of("memory=r=4").params is None


@pytest.mark.slow
@given(of=profiles(), rank=st.integers(1, 6), share=st.floats(0.3, 1.1), bound=st.booleans())
def test_the_run_s_plan_is_compared_as_it_is_beside_uniform_of_as_many_parameters(of, rank, share, bound):
    memory = share * allocate(of, budget=f"params=r={rank}").cost.memory
    try:
        plan = allocate(of, budget=[f"memory={memory:.0f}B", *([f"params=r={rank}"] if bound else [])])
    except BudgetError:
        assume(False)
    # As if it had been changed by hand: no plan that is made anew is it.
    plan = attrs.evolve(plan, notes=("by hand",), request=attrs.evolve(plan.request, scale=3))
    own = own_budget(plan)
    assert is_own(plan, budget_of(own).texts())
    by_name, arms, _ = made(plan, own, of)
    assert by_name["plan"].sizes["lora"] == plan.sizes("lora")
    assert by_name["plan"].scale == 3
    if "uniform" in by_name:
        assert by_name["uniform"].parameters <= plan.parameters / 0.99
    if BOUND_UNIFORM in by_name:
        assert by_name[BOUND_UNIFORM].memory <= memory * (1 + 1e-9)
        assert by_name[BOUND_UNIFORM].parameters <= plan.parameters / 0.99
    assert told_of_bounds(plan, arms) == () or "uniform" in by_name


@pytest.mark.parametrize("typed", ["r=4", "params=r=4"])
def test_a_plan_of_parameters_alone_is_compared_at_that_bound(typed):
    assert own_budget(WHOLE) == "params=r=4"
    assert other_bounds(WHOLE) == ()
    by_name, arms, _ = made(WHOLE, typed)
    assert by_name["plan"].sizes["lora"] == WHOLE.sizes("lora")
    assert told_of_bounds(WHOLE, arms) == ()


def test_what_is_bound_by_memory_too_is_not_planned_anew_without_it_and_uniform_is_said_not_to_be():
    plan = allocate(PROFILE, budget=["params=r=4", TIGHT], abstain=False)
    assert any(decision.method == "none" for decision in plan.decisions)
    assert own_budget(plan) == "params=r=4"
    by_name, arms, dropped = made(plan, own_budget(plan))
    assert dropped == ()
    assert by_name["plan"].sizes["lora"] == plan.sizes("lora") != WHOLE.sizes("lora")
    assert by_name["uniform"].memory > plan.limits.memory >= by_name[BOUND_UNIFORM].memory
    (told,) = told_of_bounds(plan, arms)
    assert told.startswith(f"uniform params=r=4 is not held to {TIGHT}, as the plan is: a step is counted as ")
    assert told.endswith(f"; {BOUND_UNIFORM} keeps to all bounds")
    assert "strategy" not in told_of_bounds(plan, [by_name["uniform"], by_name["plan"]])[0]


def test_at_other_parameters_the_plan_keeps_its_other_bounds_and_elsewhere_the_budget_is_what_is_typed():
    plan = allocate(PROFILE, budget=["params=r=4", TIGHT], abstain=False)
    at_two, _, _ = made(plan, "r=2")
    assert at_two["plan"].sizes["lora"] == allocate(PROFILE, budget=["params=r=2", TIGHT], abstain=False).sizes("lora")
    assert bounds_at(plan, ["params=9k"]) == ("params=9k", TIGHT)
    assert bounds_at(plan, ["memory=9GiB"]) == ("memory=9GiB",)
    assert bounds_at(plan, ["params=9k", "memory=9GiB"]) == ("params=9k", "memory=9GiB")
    _, arms, _ = made(plan, "params=r=4;memory=9GiB")
    assert told_of_bounds(plan, arms) == ()  # which bounds all of them alike


def test_where_other_bounds_leave_parameters_uniform_gets_as_many_as_the_plan_trains():
    # Of rank 4 in fewer layers than all.
    few = allocate(PROFILE, budget=["params=r=4", TIGHT], strategy="uniform")
    assert few.parameters < 0.99 * few.limit
    for plan in (few, allocate(PROFILE, budget=TIGHT)):
        assert own_budget(plan) == f"params={plan.parameters}"
        by_name, _, _ = made(plan, own_budget(plan))
        assert by_name["plan"].sizes["lora"] == plan.sizes("lora")
        assert 0.99 * plan.parameters < by_name["uniform"].parameters <= plan.parameters


def test_a_plan_that_trains_nothing_has_no_such_budget():
    nothing: Plan = attrs.evolve(
        WHOLE, cost=attrs.evolve(WHOLE.cost, params=0), request=attrs.evolve(WHOLE.request, budget=(TIGHT,))
    )
    assert own_budget(nothing) is None
