"""The strategy on small examples, worked out by hand."""

from costbenefit_instances import candidate_set, decide, lora_units, ranks, unit, widths
from layerlens_core.plugin import Limits


def test_a_straight_gain_is_spent_rank_by_rank():
    """The hull of a straight line has two corners; a step between them would not fit, and nothing would be spent."""
    straight = candidate_set([unit("L0", ranks(0.25, 0.5, 0.75, 1.0, price=10))])
    (decision,) = decide(straight, Limits(params=35), cost=0)
    assert decision.size == 3


def test_a_useful_unit_gets_more_than_a_useless_one():
    decisions = decide(lora_units(0.6, 0.3, 0.1), Limits(params=60))
    sizes = [decision.size for decision in decisions]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_a_step_that_loses_on_its_own_is_taken_on_the_way_to_one_that_pays():
    """Rank 1 gives nothing, rank 2 a lot: the hull goes straight to rank 2."""
    (decision,) = decide(candidate_set([unit("L0", ranks(0.0, 1.0))]), cost=0.5)
    assert (decision.method, decision.size) == ("lora", 2)


def test_of_two_methods_the_one_with_more_gain_a_parameter():
    two = candidate_set([unit("L0", ranks(0.5, price=4), widths(0.5, price=5, bias=3))])
    (decision,) = decide(two, cost=0)
    assert decision.method == "lora"
    assert decision.parameters == 4


def test_a_negative_utility_is_never_trained():
    decisions = decide(lora_units(0.5, -0.5), cost=0)
    assert [decision.method for decision in decisions] == ["lora", "none"]


def test_a_utility_weight_of_zero_trains_nothing():
    decisions = decide(lora_units(0.5, 0.5), utility=0)
    assert [decision.method for decision in decisions] == ["none", "none"]


def test_gain_is_measured_against_what_the_budget_could_buy():
    """Half the budget a rank, and for a quarter of what both gain the second one does not pay."""
    candidates = candidate_set([unit("L0", ranks(0.75, 1.0, 100.0, 200.0, price=8))])
    straight = candidate_set([unit("L0", ranks(0.75, 1.0, price=8))])
    (decision,) = decide(straight, Limits(params=16), cost=0.5)
    assert decision.size == 1
    # What no budget of this size buys does not make the rest look small: nothing on the hull fits.
    (decision,) = decide(candidates, Limits(params=16), cost=0.5)
    assert decision.method == "none"


def test_each_resource_has_a_weight():
    """LoRA keeps more and computes more, adapters stay in the way of inference."""
    two = candidate_set(
        [unit("L0", ranks(0.9, price=8, flops=8.0, kept=50.0), widths(0.8, price=8, bias=0, seconds=0.5))]
    )
    assert [decide(two, cost=0, **{name: 1})[0].method for name in ("flops", "memory", "latency")] == [
        "adapter",
        "adapter",
        "lora",
    ]


def test_what_is_free_of_all_that_is_weighed_is_still_bought_by_parameters():
    """Merged LoRA has no latency: with nothing else weighed every rank is free, and the largest would not fit."""
    candidates = candidate_set([unit("L0", ranks(0.4, 0.6, 0.7, 0.75, price=4), widths(0.8, price=4, seconds=0.5))])
    (decision,) = decide(candidates, Limits(params=13), cost=0, latency=1)
    assert (decision.method, decision.size) == ("lora", 3)


def test_a_step_that_is_worth_a_little_more_than_its_cost_is_taken():
    (decision,) = decide(candidate_set([unit("L0", ranks(0.75, 1 + 1 / 1024, price=8))]), cost=0.5)
    assert decision.size == 2
