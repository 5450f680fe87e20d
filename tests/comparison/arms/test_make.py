"""All arms by name, on random models: what each may cost, what each must train, and what is said of those dropped."""

import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_profile import bert_profile
from comparison.arms.random_profiles import counted, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.case import with_strategy
from layerlens_core.comparison.arms.make import RULES, make_arms
from layerlens_core.errors import BudgetError, PlanError, PluginError
from layerlens_core.values.comparison import Arm, Job, Schedule

NAMES = (
    *RULES,
    "budget",
    "strategy:threshold",
    "metric:given",
    "method:adapter",
    "method:prefix",
    "plan+gradient",
    "plan+by-rank",
)
PROFILE = bert_profile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], granularity="module")
PLAN = allocate(PROFILE, budget="params=r=4", abstain=False)


def _job(arm: Arm) -> str:
    return Job(arm=arm, rate=0.0, seed=0, schedule=Schedule(steps=1, batch=1), setting="").id


def _made(names, budgets=("r=4",), profile=PROFILE, plan=PLAN, **more):
    arms, dropped = make_arms(names, budgets, profile=profile, plan=plan, **more)
    return {arm.key: arm for arm in arms}, {f"{each.name} {each.budget}": each.reason for each in dropped}


@pytest.mark.slow
@settings(max_examples=40)
@given(profile=profiles(), rank=st.integers(1, 9), amount=st.integers(1, 4000), seed=st.integers(0, 3), data=st.data())
def test_every_arm_is_counted_exactly_and_keeps_to_its_budget(profile, rank, amount, seed, data):
    plan = allocate(profile, budget=f"params=r={rank}", strategy=data.draw(st.sampled_from(["threshold", "budget"])))
    budgets = (f"r={rank}", f"params={amount}")
    arms, dropped = make_arms(NAMES, budgets, profile=profile, plan=plan, seed=seed, eva=lambda r: _eva(profile, r))
    assert len(arms) + len(dropped) == len(NAMES) * 2 - 1  # ``none`` is at the first budget alone
    assert all(each.reason for each in dropped)
    bounds = {budgets[0]: profile.inventory.lora_parameters(rank), budgets[1]: amount}
    for arm in arms:
        assert arm.parameters == counted(arm, profile.inventory)
        assert arm.name == "full" or (arm.name != "none") <= arm.parameters <= bounds[arm.budget]
        assert all(size >= 1 for of in arm.sizes.values() for size in of.values())
        assert all(arm.sizes.values())
        assert arm.scale == plan.scale
    again = make_arms(NAMES, budgets, profile=profile, plan=plan, seed=seed, eva=lambda r: _eva(profile, r))
    assert again == (arms, dropped)


def test_an_arm_that_trains_nothing_is_there_once():
    arms, dropped = _made(["none", "uniform", "method:adapter"], ("r=1", "r=2"))
    assert [key for key in arms if key.startswith("none")] == ["none r=1"]
    assert (arms["none r=1"].sizes, arms["none r=1"].parameters) == ({}, 0)
    assert dropped == {}


def _eva(profile, rank):
    return {module.name: (2 * rank * at) // len(profile.inventory.modules)
            for at, module in enumerate(profile.inventory.modules)}  # fmt: skip


@settings(max_examples=25)
@given(profile=profiles(), rank=st.integers(1, 5), share=st.floats(0.3, 1.2))
def test_a_budget_of_memory_holds_every_arm(profile, rank, share):
    plan = allocate(profile, budget=f"params=r={rank}")
    bound = share * plan.cost.memory
    arms, _ = make_arms(NAMES, [f"memory={bound:.0f}B"], profile=profile, plan=plan)
    assert arms or share < 1
    for arm in arms:
        assert arm.name == "none" or 0 < arm.memory <= bound + 1


def test_the_runs_plan_is_the_arm_at_its_own_budget_even_where_it_was_changed_by_hand():
    other = attrs.evolve(PLAN, decisions=allocate(PROFILE, budget="params=r=4", strategy="budget").decisions)
    arms, _ = _made(["plan"], plan=other)
    assert arms["plan r=4"].sizes["lora"] == other.sizes("lora") != PLAN.sizes("lora")


def test_at_another_budget_the_plan_is_what_the_same_request_gives_there():
    plan = allocate(PROFILE, budget="params=r=4", strategy="budget", scale=3)
    arms, _ = _made(["plan"], ["params=20k"], plan=plan)
    made = allocate(PROFILE, budget="params=20k", strategy="budget", scale=3)
    assert arms["plan params=20k"].sizes["lora"] == made.sizes("lora")
    assert arms["plan params=20k"].scale == 3.0


def test_strategies_metrics_and_methods_go_by_their_names():
    two = attrs.evolve(
        PROFILE, scores=(*PROFILE.scores, attrs.evolve(PROFILE.scores[0], metric="flat", values=dict.fromkeys(
            PROFILE.scores[0].values, 1.0))),
    )  # fmt: skip
    plan = allocate(two, budget="params=r=4", abstain=False)
    arms, dropped = _made(["budget", "strategy:budget", "metric:given", "metric:fisher", "method:adapter"], ("r=4",),
                          profile=two, plan=plan)  # fmt: skip
    by_budget = allocate(two, budget="params=r=4", strategy="budget").sizes("lora")
    assert arms["budget r=4"].sizes["lora"] == arms["strategy:budget r=4"].sizes["lora"] == by_budget
    alone = allocate(two, budget="params=r=4", weights={"given": 1.0, "flat": 0.0}, abstain=False).sizes("lora")
    assert arms["metric:given r=4"].sizes["lora"] == alone != plan.sizes("lora")
    assert set(arms["method:adapter r=4"].sizes) == {"adapter"}
    assert (
        "no scores of fisher, but of given, flat; profile again with --metrics fisher" in dropped["metric:fisher r=4"]
    )


def test_a_start_is_part_of_the_name_and_needs_directions():
    _, dropped = _made(["plan+gradient", "lora-ga"])
    assert all("--directions" in reason for reason in dropped.values())
    aligned = attrs.evolve(PROFILE, directions="a" * 64)
    plan = allocate(aligned, budget="params=r=4")
    arms, dropped = _made(
        ["plan", "plan+gradient", "lora-ga", "uniform", "method:adapter+gradient", "full+gradient"],
        profile=aligned, plan=plan,
    )  # fmt: skip
    assert arms["plan+gradient r=4"].sizes == arms["plan r=4"].sizes
    assert arms["plan+gradient r=4"].start == arms["lora-ga r=4"].start == "gradient"
    assert arms["lora-ga r=4"].sizes == arms["uniform r=4"].sizes
    assert set(dropped) == {"method:adapter+gradient r=4", "full+gradient r=4"}


def test_arms_that_train_the_same_are_kept_and_said():
    arms, _ = _made(["plan", "metric:given", "uniform"])
    assert _job(arms["plan r=4"]) == _job(arms["metric:given r=4"]) != _job(arms["uniform r=4"])
    assert "it trains what plan r=4 does" in arms["metric:given r=4"].reason
    assert "it trains what" not in arms["plan r=4"].reason + arms["uniform r=4"].reason


def test_a_budget_below_what_an_arm_needs_drops_it_with_the_reason():
    arms, dropped = _made(["uniform", "dominant", "plan"], ["params=5k"])
    assert "lora at 36 places, takes 10,368 of params, and 5,000 are allowed" in dropped["uniform params=5k"]
    assert arms["dominant params=5k"].parameters <= 5000
    _, dropped = _made(["plan", "dominant"], ["params=5"])
    assert all("give at least params=" in reason for reason in dropped.values())
    assert len(dropped) == 2


def test_another_seed_draws_otherwise():
    arms, other = (_made(["shuffled", "random-half", "uniform", "plan"], ["params=20k"], seed=s)[0] for s in (0, 1))
    same = {key.split()[0] for key in arms if _job(arms[key]) == _job(other[key])}
    assert same == {"plan"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unifrom", r"no arm is named 'unifrom'; there are: plan, uniform, .*threshold.*Did you mean 'uniform'"),
        ("strategy:bugdet", "no strategy is named 'bugdet'.*Did you mean 'budget'"),
        ("metric:fischer", "no metric is named 'fischer'.*Did you mean 'fisher'"),
        ("method:adaptor", "no method is named 'adaptor'.*Did you mean 'adapter'"),
        ("plan+gradiant", "no start of LoRA is named 'gradiant'.*Did you mean 'gradient'"),
        ("rule:plan", "no arm is named 'rule:plan'"),
    ],
)
def test_a_name_that_nothing_has_is_refused_with_the_nearest(name, said):
    with pytest.raises(PluginError, match=said):
        _made(["plan", name])


def test_what_cannot_be_read_or_does_not_belong_together_is_refused():
    with pytest.raises(BudgetError, match="'r4' is not of the form"):
        _made(["plan"], ["r=4", "r4"])
    with pytest.raises(PlanError, match="not made from this profile"):
        _made(["plan"], profile=bert_profile([1.0, 2.0], granularity="module"))


def test_every_rule_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "arms.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named == set(RULES)
    assert all(rule.__doc__ for rule in RULES.values())


def test_arms_are_made_without_torch():
    code = "import sys, layerlens_core.comparison.arms.make as m; print('torch' in sys.modules, 'peft' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def test_another_strategy_keeps_all_of_a_request_that_is_no_strategys_own():
    request = attrs.evolve(PLAN.request, gains={"lora": (0.9, 3.0)}, options={"temper": "1"}, abstain=True)
    other = with_strategy(request, "budget")
    left = {"strategy": "budget", "options": {}, "granularity": None, "abstain": None}
    assert attrs.asdict(other) == attrs.asdict(request) | left
