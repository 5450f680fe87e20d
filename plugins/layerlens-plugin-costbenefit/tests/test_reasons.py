"""Each decision says where it stopped, why, and what came next."""

import pytest

from costbenefit_instances import candidate_set, decide, lora_units, ranks, reached, unit
from layerlens_core.plugin import Cost, Limits


@pytest.mark.parametrize("bounds", [Limits(), Limits(params=1_000)])
@pytest.mark.parametrize("cost", [0, 0.5])
def test_utilities_that_are_all_zero_train_nothing_and_say_why(bounds, cost):
    decisions = decide(lora_units(0.0, 0.0, 0.0), bounds, cost=cost)
    assert [decision.method for decision in decisions] == ["none"] * 3
    assert {decision.reason for decision in decisions} == {
        "no candidate is worth its cost; nothing larger gains more; "
        "all utilities are equal, so all layers get one method",
    }


def test_the_reason_says_what_stopped_it_the_budget():
    (decision,) = decide(lora_units(1.0, price=10), Limits(params=25), cost=0.5)
    assert (decision.size, decision.parameters) == (2, 20)
    # The budget buys two ranks, and all gain is measured against theirs.
    worth = 1 - reached(1) / reached(2)
    assert decision.reason == (
        f"the last step's gain is worth {worth:.3g} and its cost {0.5 * 10 / 25:.3g}; "
        "stopped before lora of size 3: it does not fit into what is left of params"
    )
    assert decision.runner_up == "lora of size 3"


def test_the_reason_names_every_limit_that_stopped_it():
    candidates = lora_units(1.0, price=10, flops=2.0, seconds=0.25)
    (decision,) = decide(candidates, Limits(params=29, flops=17.0, memory=1e6, latency=0.5), cost=0)
    assert (decision.size, decision.cost) == (2, Cost(params=20, flops=12.0, memory=160.0, latency=0.5))
    assert decision.reason.endswith("it does not fit into what is left of params and flops and latency")


def test_the_reason_says_that_a_method_is_for_all_layers_of_equal_utility():
    decisions = decide(lora_units(0.5, 0.5, 0.5), Limits(params=11), cost=0)
    assert [decision.method for decision in decisions] == ["none"] * 3
    assert {decision.reason for decision in decisions} == {
        "no candidate is worth its cost; stopped before lora of size 1: "
        "it does not fit into what is left of params for all 3 layers of equal utility; "
        "all utilities are equal, so all layers get one method"
    }


def test_the_reason_says_what_stopped_it_the_cost():
    # Two ranks of 8 parameters; without a budget, rank 2 (16) is the whole, and its gain all that could be bought.
    (decision,) = decide(candidate_set([unit("L0", ranks(0.75, 1.0, price=8))]), cost=0.5)
    assert decision.size == 1  # 0.75 > 0.25; the second step gains 0.25, which is not above 0.25
    assert decision.reason == (
        "the last step's gain is worth 0.75 and its cost 0.25; "
        "stopped before lora of size 2: its gain is worth 0.25 and its cost 0.25"
    )
    assert decision.runner_up == "lora of size 2"


def test_the_reason_says_that_nothing_larger_gains_more():
    (decision,) = decide(candidate_set([unit("L0", ranks(1.0, 1.0, 0.5))]), cost=0)
    assert decision.size == 1
    assert decision.reason.endswith("nothing larger gains more")
    assert decision.runner_up is None
