"""The control: equal parameters and equal sizes within each group of equal cost, elsewhere."""

from collections import Counter

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bert_profile import bert_profile
from comparison.arms.random_profiles import case_of, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.comparison.arms.of_plan import plan_of_arm
from layerlens_core.comparison.arms.shuffled import shuffled
from layerlens_core.values.costs import Activations

PROFILE = bert_profile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], granularity="module")


def _held(inventory, sizes):
    """How many modules of each width hold each rank, the frozen ones among them."""
    return Counter(
        (module.in_features + module.out_features, sizes.get(module.name, 0)) for module in inventory.modules
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(profile=profiles(), rank=st.integers(1, 6), seed=st.integers(0, 3))
def test_every_group_of_equal_cost_holds_the_same_sizes_in_another_order(profile, rank, seed):
    plan = allocate(profile, budget=f"params=r={rank}", strategy="budget")
    try:
        arm = shuffled(case_of(profile, plan, f"r={rank}", seed))
    except Unfit:
        assume(False)
    assert arm.parameters == plan.parameters
    assert _held(profile.inventory, arm.sizes["lora"]) == _held(profile.inventory, plan.sizes("lora"))
    assert arm.sizes["lora"] != plan.sizes("lora")


def test_layers_of_several_methods_are_exchanged_whole():
    plan = allocate(
        PROFILE, budget="params=r=4", methods="none,lora,adapter", strategy="threshold",
        options={"thresholds": "0.05,0.2"},
    )  # fmt: skip
    methods = Counter(decision.method for decision in plan.decisions)
    assert len(methods) > 1
    assert methods["adapter"]
    assert methods["lora"]
    arm = shuffled(case_of(PROFILE, plan, "r=4"))
    assert arm.parameters == plan.parameters
    again = plan_of_arm(attrs.evolve(arm, name="shuffled"), PROFILE)
    assert Counter(decision.method for decision in again.decisions) == methods
    assert [d.method for d in again.decisions] != [d.method for d in plan.decisions]


def test_under_a_budget_of_memory_what_is_frozen_below_stays_frozen():
    names = [layer.name for layer in PROFILE.inventory.layers]
    measured = attrs.evolve(
        PROFILE,
        activations=Activations(through=dict.fromkeys(names, 1e5), adapted=dict.fromkeys(names, 10.0), head=1.0),
    )
    whole = allocate(measured, budget="params=r=4", abstain=False)
    plan = allocate(measured, budget=["params=r=4", f"memory={0.7 * whole.cost.memory:.0f}B"], strategy="threshold")
    frozen = {d.unit for d in plan.decisions if d.method == "none"}
    assert frozen
    arm = shuffled(case_of(measured, plan, ",".join(plan.request.budget)))
    assert arm.memory <= plan.limits.most("memory")
    assert arm.parameters == plan.parameters
    lowest = names[max(names.index(unit) for unit in frozen)]
    assert not any(name.startswith(f"{lowest}.") for name in arm.sizes["lora"])


def test_a_plan_whose_groups_are_alike_has_no_shuffling():
    flat = bert_profile([1.0, 1.0, 1.0], granularity="layer")
    plan = allocate(flat, budget="params=r=4", strategy="threshold", options={"thresholds": "0"})
    assert set(plan.sizes("lora").values()) == {4}
    with pytest.raises(Unfit, match="every shuffling is the plan itself"):
        shuffled(case_of(flat, plan, "r=4"))
