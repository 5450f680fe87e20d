"""The verdict: better only where it is shown; else uniform."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.runs import LABELS, arm, result, runs
from layerlens_core.comparison.judging.judgement import Verdict
from layerlens_core.comparison.judging.statistics import pooled
from layerlens_core.comparison.judging.verdict import pairs, verdict
from layerlens_core.errors import ComparisonError
from layerlens_core.files import documents

RANKS = (1, 2, 4, 8)
EFFECTS = {"uniform": 0.0, "plan": -0.03, "shuffled": 0.0, "top-half": 0.08}
GRID = {(name, rank): effect for name, effect in EFFECTS.items() for rank in RANKS}


def finding(found, key):
    return next(each for each in found.judged if each.key == key)


def test_what_is_better_is_recommended_and_what_is_not_is_not():
    found = verdict(runs(GRID), LABELS)
    assert {each.key: each.finding for each in found.judged if each.budget == "r=4"} == {
        "uniform r=4": "uniform", "plan r=4": "better", "shuffled r=4": "no difference", "top-half r=4": "worse",
    }  # fmt: skip
    assert {each.budget: (each.arm, each.rate) for each in found.recommended} == {
        f"r={rank}": ("plan", 1e-2) for rank in RANKS
    }
    plan = finding(found, "plan r=4")
    assert plan.ratio.estimate == pytest.approx(plan.difference.estimate / finding(found, "uniform r=4").loss)
    assert plan.corrected >= plan.difference.p
    # 0.1 a doubling: 0.03 less is 2^0.3 times the parameters.
    assert plan.factor.estimate.times == pytest.approx(2**0.3, rel=0.05)
    assert plan.factor.low.times < plan.factor.estimate.times < plan.factor.high.times
    assert "better than uniform by 1.6" in plan.sentence
    assert "uniform would need 1.2" in plan.sentence
    assert {each.arm: each.finding for each in found.overall} == {
        "plan": "better", "shuffled": "no difference", "top-half": "worse",
    }  # fmt: skip


def test_where_nothing_is_shown_uniform_is_recommended_and_the_sentence_says_so():
    found = verdict(runs({("uniform", 4): 0.0, ("plan", 4): -1e-4}), LABELS)
    assert finding(found, "plan r=4").finding == "no difference"
    assert "no difference to uniform that this evidence can show" in finding(found, "plan r=4").sentence
    (only,) = found.recommended
    assert only.arm == "uniform"
    assert "the simplest" in only.sentence
    assert finding(found, "plan r=4").factor is None


@settings(deadline=None, max_examples=25)
@given(st.floats(-0.01, 0.01), st.floats(1e-4, 3e-2), st.integers(1, 4), st.integers(1, 6))
def test_better_is_never_said_where_an_interval_holds_zero(effect, noise, seeds, arms):
    effects = {("uniform", 4): 0.0, **{("plan" + "x" * n, 4): effect for n in range(arms)}}
    found = verdict(runs(effects, seeds=seeds, noise=noise, rates=(1e-2,)), LABELS)
    for each in found.judged:
        if each.finding in ("better", "worse"):
            assert not each.difference.holds_zero
            assert each.corrected < 0.05
            assert (each.finding == "better") == (each.difference.high < 0)
        else:
            assert "better than" not in each.sentence
    if all(each.finding != "better" for each in found.judged):
        assert [each.arm for each in found.recommended] == ["uniform"]


def test_the_correction_counts_every_arm():
    alone = verdict(runs({("uniform", 4): 0.0, ("plan", 4): -0.03}), LABELS)
    among = verdict(runs({("uniform", 4): 0.0, ("plan", 4): -0.03, **{(f"a{n}", 4): 0.0 for n in range(9)}}), LABELS)
    one, other = (finding(each, "plan r=4") for each in (alone, among))
    assert one.corrected == one.difference.p == other.difference.p
    assert other.corrected == pytest.approx(10 * one.corrected)


def test_tasks_are_pooled_by_the_pairs_of_each():
    results = runs(GRID)
    (plan,) = [each for each in verdict(results, LABELS).overall if each.arm == "plan"]
    own = pairs(results, LABELS, "plan")
    assert len(own) == len(RANKS)
    assert pooled([own]) == plan.difference
    both = pooled([own, own])
    assert both.estimate == pytest.approx(plan.difference.estimate)
    assert both.high - both.low < plan.difference.high - plan.difference.low
    assert pairs(results, LABELS, "other") == ()


def test_memory_is_as_measured_else_as_planned_and_stacked_runs_share_it():
    planned = verdict([result(arm(memory=5.0), [2.0] * len(LABELS), seconds=70.0)], LABELS).judged[0]
    assert (planned.memory, planned.step) == (5.0, 0.1)
    measured = verdict([result(arm(memory=5.0), [2.0] * len(LABELS), peak=12, stacked=4)], LABELS).judged[0]
    assert measured.memory == 3.0


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_jobs_ended_changes_nothing(random):
    results = runs({**GRID, ("attention-only", 4): 0.01}, rates=(1e-2,))
    mixed = random.sample(results, len(results))
    assert verdict(mixed, LABELS) == verdict(results, LABELS)
    names = [each.arm for each in verdict(mixed, LABELS).judged if each.budget == "r=4"]
    assert names == ["uniform", "plan", "attention-only", "shuffled", "top-half"]


def test_a_plan_that_is_a_little_smaller_stands_below_its_uniform():
    results = runs({("uniform", 4): 0.0, ("uniform", 8): 0.0}, rates=(1e-2,))
    results.append(result(arm("plan", 4, parameters=3990), [2.0] * len(LABELS)))
    assert [each.key for each in verdict(results, LABELS).judged] == ["uniform r=4", "plan r=4", "uniform r=8"]


def test_one_seed_calls_nothing_better():
    found = verdict(runs(GRID, seeds=1), LABELS)
    assert {each.finding for each in found.judged} == {"uniform", "no difference"}
    assert {each.finding for each in found.overall} == {"no difference"}
    assert all(each.surely is None for each in found.sufficient)
    assert any(line.startswith("with one seed") for line in found.warnings)


def test_an_arm_that_diverged_is_told_and_never_averaged():
    results = runs({("uniform", 4): 0.0}, rates=(1e-2,))
    results += [result(arm("plan"), None if seed == 1 else [1.0] * len(LABELS), seed=seed) for seed in range(3)]
    plan = finding(verdict(results, LABELS), "plan r=4")
    assert (plan.finding, plan.diverged, plan.loss, plan.difference) == ("diverged", (1,), None, None)
    assert plan.sentence == "diverged at rate 0.01 in 1 of 3 seeds"
    assert verdict(results, LABELS).recommended[0].arm == "uniform"


def test_where_uniform_diverged_nothing_is_recommended_at_its_budget():
    found = verdict(runs({("uniform", 4): None, ("plan", 4): 0.0, ("uniform", 2): 0.0}), LABELS)
    assert finding(found, "plan r=4").finding == "unmatched"
    assert [each.budget for each in found.recommended] == ["r=2"]


def test_an_arm_below_any_uniform_gets_a_factor_by_the_nearest():
    small = arm("core", 1, budget="r=1/4", parameters=250)
    results = runs({("uniform", 1): 0.0, ("uniform", 2): 0.0, ("same", 1): 0.0}, rates=(1e-2,))
    same = [each for each in results if each.job.arm.name == "same"]
    results = [each for each in results if each not in same]
    results += [result(small, each.losses, seed=each.job.seed) for each in same]
    core = finding(verdict(results, LABELS), "core r=1/4")
    assert (core.finding, core.difference) == ("unmatched", None)
    assert core.factor.low.times <= 4 <= core.factor.high.times
    assert "would need" in core.sentence


def test_an_arm_of_the_same_sizes_is_uniform_itself():
    twin = arm("plan", sizes=arm().sizes)
    results = runs({("uniform", 4): 0.0, ("other", 4): -0.03}, rates=(1e-2,))
    results += [result(twin, each.losses, seed=each.job.seed) for each in results if each.job.arm.name == "uniform"]
    found = verdict(results, LABELS)
    assert finding(found, "plan r=4").finding == "same"
    other = finding(found, "other r=4")
    assert other.corrected == other.difference.p


def test_accuracy_is_judged_by_the_same_functions():
    found = verdict(runs(GRID, right=True), LABELS)
    plan, base = finding(found, "plan r=4"), finding(found, "uniform r=4")
    assert plan.right.estimate == pytest.approx(plan.accuracy - base.accuracy)
    assert plan.right.estimate > 0
    assert base.right is None
    assert finding(verdict(runs(GRID), LABELS), "plan r=4").accuracy is None


def test_the_budget_that_is_enough():
    effects = {1: 0.2, 2: 0.11, 4: 0.2, 8: 0.33}  # with uniform's curve: 2.2, 2.01, 2.0 and 2.03
    found = verdict(runs({("uniform", rank): effect for rank, effect in effects.items()}), LABELS)
    (uniform,) = found.sufficient
    assert (uniform.best, uniform.enough) == ("r=4", "r=2")
    assert "r=2 is enough: 0.6" in found.summary[-1]
    assert verdict(runs(GRID), LABELS, tolerance=0.2).sufficient[0].enough == "r=1"


def test_warnings_name_what_weakens_the_evidence():
    few = LABELS[:30]
    found = verdict(runs({("uniform", 4): 0.0}, labels=few, rates=(1e-2, 2e-2)), few)
    assert any("only 30 held-out examples" in line for line in found.warnings)
    assert any("uniform r=4 is best at the least rate that was tried, 0.01" in line for line in found.warnings)
    assert any("tried at one rate only" in line for line in verdict(runs(GRID, rates=(1e-2,)), LABELS).warnings)
    lonely = verdict(runs({("plan", 4): 0.0}), LABELS)
    assert any("uniform has no loss at any budget" in line for line in lonely.warnings)
    assert lonely.recommended == ()


def test_with_rates_fixed_beforehand_nothing_is_selected():
    rates = {f"{name} r={rank}": 5e-3 for name, rank in GRID}
    found = verdict(runs(GRID), LABELS, rates=rates)
    assert {each.rate for each in found.judged} == {5e-3}
    assert not any("favours arms" in line for line in found.warnings)


def test_a_verdict_is_written_and_read_again(tmp_path: Path):
    found = verdict(runs({**GRID, ("broken", 4): None}, right=True), LABELS)
    documents.write(tmp_path / "verdict.json", found, schema="verdict", version=1)
    assert documents.read(tmp_path / "verdict.json", Verdict, schema="verdict", version=1) == found


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ComparisonError, match="between 0 and 1"):
        verdict(runs(GRID), LABELS, confidence=95)
    with pytest.raises(ComparisonError, match="two held-out samples"):
        verdict([], (1, 0))
