"""The threshold strategy: which method, which sizes, and what it says."""

import functools
import math

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from layerlens_core.allocation.allocate import allocate as allocate_with
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import BudgetError, PlanError
from layerlens_core.values.inventory import Skipped

allocate = functools.partial(allocate_with, strategy="threshold")

METHODS = ("none", "prefix", "adapter", "lora")
ALL = {"methods": METHODS}


def methods(plan):
    return [decision.method for decision in plan.decisions]


def test_thresholds_reach_the_methods_in_ascending_capacity(make_profile):
    # Shares of these raw scores are the utilities 0.005, 0.02, 0.04, 0.06 and 0.875.
    profile = make_profile([5, 20, 40, 60, 875])
    plan = allocate(profile, options={"thresholds": "0.01,0.03,0.05"}, budget=Budget(params="20%"), **ALL)
    assert [d.utility for d in plan.decisions] == pytest.approx([0.005, 0.02, 0.04, 0.06, 0.875])
    assert methods(plan) == ["none", "prefix", "adapter", "lora", "lora"]


def test_a_utility_on_a_threshold_reaches_the_upper_method(make_profile):
    plan = allocate(make_profile([1, 1, 2, 4]), options={"thresholds": "0.125,0.25,0.5"}, **ALL)
    assert methods(plan) == ["prefix", "prefix", "adapter", "lora"]
    assert plan.decisions[2].reason == "utility 0.25 is at or above 0.25 and below 0.5: adapter"
    # The next number below the threshold is already the lower method's.
    assert (plan.decisions[2].runner_up, plan.decisions[2].margin) == ("prefix", math.nextafter(0.25, 0) - 0.25)


def test_the_margin_is_what_flips_the_method(make_profile):
    plan = allocate(make_profile([1, 3, 4]), options={"thresholds": "0.3"}, methods=["lora"])
    second = plan.decisions[1]
    assert (second.method, second.runner_up) == ("lora", "none")
    assert second.margin == pytest.approx(-0.075)
    assert second.utility + second.margin < 0.3
    first = plan.decisions[0]
    assert (first.method, first.runner_up) == ("none", "lora")
    assert first.margin == pytest.approx(0.175)
    assert first.utility + first.margin >= 0.3


def test_quantiles_move_with_the_utilities_and_give_no_margin(make_profile):
    plan = allocate(make_profile([1, 3, 4]), margins=False)
    assert {decision.margin for decision in plan.decisions} == {None}


def test_utilities_from_0_to_1_reach_every_method_by_quantiles(make_profile):
    plan = allocate(make_profile([i / 11 for i in range(12)]), normalizer="max", **ALL)
    # None is frozen, as the budget does not force it.
    assert set(methods(plan)) == {"prefix", "adapter", "lora"}
    assert [METHODS.index(m) for m in methods(plan)] == sorted(METHODS.index(m) for m in methods(plan))


def test_methods_that_cannot_be_applied_are_not_in_the_default_set(make_profile):
    plan = allocate(make_profile([1, 2, 3]))
    assert plan.request.methods == ("none", "lora")


def test_equal_utilities_get_one_method_and_say_so(make_profile):
    plan = allocate(make_profile([2.0] * 6), **ALL)
    assert len(set(methods(plan))) == 1
    assert all("all utilities are equal" in decision.reason for decision in plan.decisions)


def test_one_layer_and_zero_scores_give_sensible_plans(make_profile):
    assert methods(allocate(make_profile([3.0]))) == ["lora"]
    zero = allocate(make_profile([0.0] * 4), budget=Budget(params="r=4"))
    assert {(d.method, d.size) for d in zero.decisions} == {("lora", 4)}


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["layer", "module"])
@settings(
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture], max_examples=60
)
@given(
    scores=st.lists(st.floats(0.01, 100), min_size=2, max_size=12),
    budget=st.integers(3_000, 400_000),
    every=st.booleans(),
)
@example(
    scores=[
        *(1.5, 99.99999999999999, 1.5, 1.5, 100.0, 99.99999999999999),  # one unit in the last place apart
        *(77.4009611909672, 1.01, 100.0, 99.0),
    ],
    budget=184_052,
    every=True,
)
def test_the_budget_is_kept_and_used_and_sizes_follow_utility(make_profile, granularity, scores, budget, every):
    profile = make_profile(scores, granularity=granularity)
    plan = allocate(profile, budget=Budget(params=budget), methods=METHODS if every else ("lora",))
    assert plan.parameters == sum(d.parameters for d in plan.decisions) <= budget
    by_method = {}
    for decision in plan.decisions:
        by_method.setdefault(decision.method, []).append(decision)
    for method, decisions in by_method.items():
        for a in decisions:
            for b in decisions:
                assert a.size >= b.size or a.utility <= b.utility, method
    if not every:
        # The smallest step may be a large module's, where the small ones of the layer are at their largest.
        small_ones_full = all(set(list(d.sizes.values())[:4]) <= {64} for d in plan.decisions)
        smallest_step = 96 + 4 * 96 if small_ones_full else 96 + 96
        full = all(set(d.sizes.values()) <= {64} for d in plan.decisions)
        assert full or budget - plan.parameters < smallest_step


def test_a_larger_budget_gives_more_rank(make_profile):
    profile = make_profile([1, 2, 3, 4, 5, 6])
    small, large = (allocate(profile, budget=Budget(params=b)) for b in ("50k", "200k"))
    for plan in (small, large):
        assert 0.95 * plan.limit <= plan.parameters <= plan.limit
    ranks = [sum(plan.sizes("lora").values()) for plan in (small, large)]
    assert ranks[1] > ranks[0]


def test_what_is_left_over_goes_to_the_most_important_modules(make_profile):
    profile = make_profile([1, 2, 3], granularity="module")
    # Rank 1 everywhere but for the last layer, and 960 parameters over: room for one of the large modules.
    plan = allocate(profile, budget=Budget(params=2 * 1728 + 3 * 1728 + 480), options={"thresholds": "0"})
    last = plan.decisions[-1]
    raised = [name for name, size in last.sizes.items() if size > last.size]
    assert raised == ["bert.encoder.layer.2.output.dense"]


def test_a_budget_below_the_cheapest_candidate_names_its_price(make_profile):
    with pytest.raises(BudgetError, match=r"allows 1,727 .* takes 1,728; give at least params=1728"):
        allocate(make_profile([1, 2]), budget=Budget(params=1727))
    plan = allocate(make_profile([1, 2]), budget=Budget(params=1728))
    assert (methods(plan), plan.parameters) == (["none", "lora"], 1728)


def test_layers_that_the_budget_cannot_reach_are_refused_from_the_least_useful(make_profile):
    plan = allocate(make_profile([4, 3, 2, 1]), budget=Budget(params=2 * 1728), options={"thresholds": "0"})
    assert methods(plan) == ["lora", "lora", "none", "none"]
    assert all("refused, as the budget" in d.reason for d in plan.decisions[2:])


def test_modules_without_a_score_are_no_targets_and_layers_without_one_stay_frozen(make_profile):
    profile = make_profile([1, 2, 3], granularity="module")
    dead = (*(m.name for m in profile.inventory.layers[1].modules), "bert.encoder.layer.0.output.dense")
    scores = attrs.evolve(
        profile.scores[0], values={k: v for k, v in profile.scores[0].values.items() if k not in dead}
    )
    unscored = tuple(Skipped(name=name, reason="never called in the forward pass") for name in dead)
    plan = allocate(attrs.evolve(profile, scores=(scores,), unscored=unscored), options={"thresholds": "0"})
    assert methods(plan) == ["lora", "none", "lora"]
    assert "never called" in plan.decisions[1].reason
    assert "bert.encoder.layer.0.output.dense" not in plan.sizes("lora")
    assert "bert.encoder.layer.0.intermediate.dense" in plan.sizes("lora")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"thresholds": "0.1,0.2"}}, r"2 methods \(none < lora\) need 1 thresholds, but there are 2"),
        ({"options": {"thresholds": "0.3,0.2,0.5"}, **ALL}, "must ascend from none to lora"),
        ({"options": {"thresholds": "a"}}, "must be numbers"),
        ({"options": {"thresholds": "nan"}}, "must ascend"),
        ({"options": {"quantiles": "1.5"}}, "between 0 and 1"),
        ({"options": {"quantiles": "0.5", "thresholds": "0.5"}}, "not both"),
        ({"options": {"threshold": "0.5"}}, "no option 'threshold'.*Did you mean 'thresholds'"),
        ({"methods": ["none"]}, "the only method is 'none'"),
    ],
)
def test_wrong_options_are_refused(make_profile, arguments, message):
    with pytest.raises(PlanError, match=message):
        allocate(make_profile([1, 2, 3]), **arguments)


def test_the_same_inputs_give_the_same_bytes(make_profile, tmp_path):
    for name in ("a", "b"):
        allocate(make_profile([3, 1, 2], granularity="module"), **ALL).save(tmp_path / name)
    assert (tmp_path / "a/plan.json").read_bytes() == (tmp_path / "b/plan.json").read_bytes()
