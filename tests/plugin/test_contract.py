"""What a strategy owes: the core holds every one to it, whoever wrote it."""

import attrs
import pytest

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import BudgetError, PlanError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.costs import Cost


def all_lora(candidates, limits, context):
    return [unit.decide("lora", 2, reason="always") for unit in candidates.units]


def allocate_with(profile, select, **arguments):
    registry = Registry.discover()
    registry.register(ll.strategy("mine", select))
    return allocate(profile, strategy="mine", registry=registry, **arguments)


def test_a_function_is_a_strategy():
    plan = allocate_with(bert_profile([1, 2]), all_lora)
    assert [(d.method, d.size, d.reason) for d in plan.decisions] == [("lora", 2, "always")] * 2
    assert plan.request.strategy == "mine"


def change(**fields):
    def select(candidates, limits, context):
        first, *rest = all_lora(candidates, limits, context)
        return [attrs.evolve(first, **fields), *rest]

    return select


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (lambda c, limits, context: all_lora(c, limits, context)[:1], r"decided nothing for bert\.encoder\.layer\.1"),
        (lambda c, limits, context: all_lora(c, limits, context) * 2, "twice"),
        (lambda c, limits, context: ["lora", "none"], "must return Decisions, but returned str"),
        (change(unit="elsewhere"), "'elsewhere' but there is no such unit"),
        (change(method="magic"), "method 'magic' is no candidate"),
        (change(cost=Cost(params=1)), "cost 3,456 parameters in all, not 1, "),
        (change(cost=Cost(params=3456)), "or differ in another cost"),
        (change(sizes={}), "sizes must name the targets"),
        (change(sizes={"bert.encoder.layer.0.output.dense": -1}), "sizes must name|at least 0"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_named(select, message):
    with pytest.raises(PlanError, match=message) as caught:
        allocate_with(bert_profile([1, 2]), select)
    assert "'mine'" in str(caught.value)


def test_a_strategy_that_overspends_is_refused():
    with pytest.raises(BudgetError, match=r"'mine' spent 6,912 .* above the limit of 5,000"):
        allocate_with(bert_profile([1, 2]), all_lora, budget=Budget(params=5000))
