"""The depth of training has a price of its own."""

import attrs

from costbenefit_instances import decide, lora_units
from layerlens_core.plugin import Cost, Limits


def deep(*utilities):
    """Layers of which each needs ten more FLOPs of the frozen model than the one above it."""
    candidates = lora_units(*utilities, most=1, flops=1.0)
    depths = [Cost(flops=100.0 + 10 * n, memory=1000.0 * n) for n in range(len(utilities), -1, -1)]
    return attrs.evolve(candidates, depths=tuple(depths))


def test_where_depth_does_not_fit_the_upper_layers_are_trained():
    decisions = decide(deep(0.7, 0.2, 0.1), Limits(flops=126.0), cost=0)
    assert [decision.method for decision in decisions] == ["none", "lora", "lora"]
    assert decisions[0].reason.endswith("a plan that trains this deep is worth less or does not fit")
    assert decisions[0].runner_up == "lora of size 1"
    assert [d.method for d in decide(deep(0.7, 0.2, 0.1), Limits(flops=133.0), cost=0)] == ["lora", "none", "none"]


def test_a_price_on_flops_keeps_a_plan_from_training_deep():
    assert decide(deep(0.05, 0.2, 0.75), cost=0)[0].method == "lora"
    assert [d.method for d in decide(deep(0.05, 0.2, 0.75), cost=0, flops=1)] == ["none", "lora", "lora"]


def test_where_depth_costs_more_than_all_layers_are_worth_nothing_is_trained():
    candidates = attrs.evolve(deep(0.1, 0.2), depths=(Cost(flops=1e6), Cost(flops=1e6), Cost(flops=1.0)))
    decisions = decide(candidates, cost=0, flops=1.5)
    assert {(decision.method, decision.reason) for decision in decisions} == {
        (
            "none",
            "no candidate is worth its cost; stopped before lora of size 1: "
            "no plan that trains anything is worth its cost and within the limits",
        )
    }


def test_depth_parts_equal_layers_only_where_nothing_could_be_trained_otherwise():
    assert {d.method for d in decide(deep(0.5, 0.5, 0.5), Limits(flops=139.0), cost=0)} == {"lora"}
    methods = [d.method for d in decide(deep(0.5, 0.5, 0.5), Limits(flops=126.0), cost=0)]
    assert methods == ["none", "lora", "lora"]
