"""The seven scenarios over the three strategies: what each input must change, and what it must not."""

from itertools import combinations

import pytest

from layerlens_core.demo.scenarios import LAYERS, SCENARIOS, plan_of
from layerlens_core.values.plan import Plan

STRATEGIES = ("threshold", "cost-benefit", "budget")
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)

#: Inputs that a strategy does not read: for it, scenarios that differ only in these are one.
UNREAD = {"threshold": {"penalties", "utility"}, "budget": {"utility"}, "cost-benefit": set()}


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, str], Plan]:
    return {(s.name, strategy): plan_of(s, strategy) for s in SCENARIOS for strategy in STRATEGIES}


def methods(plan: Plan) -> list[str]:
    return [decision.method for decision in plan.decisions]


def rank(plan: Plan, layers: range = range(LAYERS)) -> int:
    """LoRA rank over all modules of these layers."""
    return sum(sum(plan.decisions[i].sizes.values()) for i in layers if plan.decisions[i].method == "lora")


def lora_share(plan: Plan) -> float:
    return sum(d.parameters for d in plan.decisions if d.method == "lora") / plan.parameters


@every_strategy
def test_the_budget_is_kept(plans, strategy):
    for scenario in SCENARIOS:
        plan = plans[scenario.name, strategy]
        assert 0 < plan.parameters <= plan.limit


@every_strategy
def test_four_times_the_budget_gives_strictly_more_rank(plans, strategy):
    assert rank(plans["high-budget-uniform", strategy]) > rank(plans["default-uniform", strategy])


@every_strategy
def test_early_and_late_sensitivity_mirror_each_other(plans, strategy):
    early, late = plans["early-sensitive", strategy], plans["late-sensitive", strategy]
    assert methods(early) == methods(late)[::-1]
    for kind in set(methods(early)):
        sizes = [sorted(d.size for d in plan.decisions if d.method == kind) for plan in (early, late)]
        assert sizes[0] == sizes[1]
    assert early.parameters == late.parameters


@every_strategy
def test_sensitive_layers_get_at_least_twice_the_rank(plans, strategy):
    for name, sensitive in (("early-sensitive", range(4)), ("late-sensitive", range(8, 12))):
        plan = plans[name, strategy]
        others = range(4, 12) if sensitive.start == 0 else range(8)
        assert rank(plan, sensitive) / len(sensitive) >= 2 * rank(plan, others) / len(others)
        assert rank(plan, sensitive) > 0


@every_strategy
def test_cheap_lora_gives_lora_no_smaller_share(plans, strategy):
    cheap, default = lora_share(plans["lora-cheap", strategy]), lora_share(plans["default-uniform", strategy])
    assert cheap >= default
    if strategy == "cost-benefit":
        assert cheap > default


def test_a_heavier_utility_spends_strictly_more(plans):
    focused, default = plans["utility-focused", "cost-benefit"], plans["default-uniform", "cost-benefit"]
    assert focused.parameters > default.parameters


@every_strategy
def test_random_sensitivity_uses_three_methods_and_sizes_follow_utility(plans, strategy):
    plan = plans["random-sensitivity", strategy]
    assert len(set(methods(plan))) >= 3
    for kind in set(methods(plan)) - {"none"}:
        decisions = [d for d in plan.decisions if d.method == kind]
        if len({d.size for d in decisions}) > 1:
            assert spearman([d.utility for d in decisions], [d.size for d in decisions]) >= 0.7


@every_strategy
@pytest.mark.parametrize("name", ["default-uniform", "high-budget-uniform", "lora-cheap", "utility-focused"])
def test_equal_utilities_get_equal_methods_and_the_reason_says_so(plans, strategy, name):
    plan = plans[name, strategy]
    assert len(set(methods(plan))) == 1
    assert all("equal" in decision.reason for decision in plan.decisions), plan.decisions[0].reason


@every_strategy
def test_scenarios_that_differ_in_what_matters_differ_in_their_plans(plans, strategy):
    for one, other in combinations(SCENARIOS, 2):
        differing = {
            field
            for field in ("sensitivity", "budget", "penalties", "utility")
            if getattr(one, field) != getattr(other, field)
        }
        same = [(d.method, d.sizes) for d in plans[one.name, strategy].decisions] == [
            (d.method, d.sizes) for d in plans[other.name, strategy].decisions
        ]
        if differing <= UNREAD[strategy]:
            assert same, f"{one.name} and {other.name} differ only in {differing}, which {strategy} does not read"
        else:
            assert not same, f"{one.name} and {other.name}"


def spearman(xs: list[float], ys: list[float]) -> float:
    """Spearman's rank correlation, with mean ranks for ties."""
    from scipy.stats import spearmanr

    return float(spearmanr(xs, ys).statistic)
