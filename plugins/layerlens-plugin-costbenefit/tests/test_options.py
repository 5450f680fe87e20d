"""Weights as users type them, and the strategy by its name."""

import pytest

import layerlens_core as ll
from costbenefit_instances import decide, lora_units, spent
from layerlens_core.plugin import Inventory, Layer, LinearModule, PlanError, RawScores


@pytest.mark.parametrize("name", ["utility", "cost", "flops", "memory", "latency"])
@pytest.mark.parametrize("text", ["-1", "-0.001", "nan", "inf", "-inf", "much", "", "1,5"])
def test_bad_weights_are_refused(name, text):
    with pytest.raises(PlanError) as caught:
        decide(lora_units(1.0), **{name: text})
    assert str(caught.value) == f"the weight {name!r} must be a number of at least 0, but is {text!r}"


def test_weights_are_read_as_the_user_typed_them():
    candidates = lora_units(0.7, 0.3)
    assert decide(candidates, cost="5e-1") == decide(candidates, cost=0.5) == decide(candidates)
    assert spent(decide(candidates, cost=" 0.9 ")) < spent(decide(candidates, cost="0.1"))


@pytest.fixture
def profile():
    """Three layers of one 32 x 32 module each, ever more useful."""
    layers = tuple(
        Layer(
            name=f"L{i}",
            modules=(LinearModule(name=f"L{i}.w", layer=f"L{i}", kind="linear", in_features=32, out_features=32),),
        )
        for i in range(3)
    )
    return ll.Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=10_000, layers=layers),
        task="causal-lm",
        scores=(RawScores(metric="fisher", unit="1", granularity="layer", values={"L0": 1.0, "L1": 2.0, "L2": 6.0}),),
        statistics=(),
        data="none",
        samples=1,
        loss=0.0,
    )


def test_allocate_finds_it_by_name_and_keeps_the_budget(profile):
    budget = ll.Budget(params="r=4")
    plan = ll.allocate(profile, strategy="cost-benefit", budget=budget, options={"cost": 0})
    assert plan.limit == 4 * 3 * 64
    assert 0 < plan.parameters <= plan.limit
    assert plan.request.options == {"cost": "0"}
    assert [decision.size for decision in plan.decisions] == sorted(decision.size for decision in plan.decisions)


def test_allocate_refuses_options_that_it_does_not_have(profile):
    with pytest.raises(
        PlanError, match=r"no option 'costs'; it takes: utility, cost, flops, memory, latency\. Did you mean 'cost'"
    ):
        ll.allocate(profile, strategy="cost-benefit", options={"costs": 1})


def test_allocate_refuses_a_bad_weight(profile):
    with pytest.raises(PlanError, match="'cost' must be a number of at least 0, but is 'free'"):
        ll.allocate(profile, strategy="cost-benefit", options={"cost": "free"})
