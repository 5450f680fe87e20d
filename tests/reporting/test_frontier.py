"""The frontier, against plans that are made anew from the start."""

import attrs
import pytest

from layerlens_core import tracing
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.predicted import predicted_gain
from layerlens_core.allocation.problem import pose
from layerlens_core.reporting.frontier import FACTORS, frontier
from reporting.made import encoder, profile

PROFILE = profile(encoder(4))


def found_for(**asked):
    plan = allocate(PROFILE, **{"budget": "params=r=4", "abstain": False, "margins": False, **asked})
    problem = pose(PROFILE, plan.request)
    return frontier(problem, plan.decisions), problem, plan


@pytest.mark.parametrize("strategy", ["tempered", "budget", "threshold"])
def test_every_point_is_a_plan_of_its_own(strategy):
    found, problem, plan = found_for(strategy=strategy)
    assert {point.factor for point in found.points} == set(FACTORS)
    for point in found.points:
        budget = "params=r=4" if point.factor == 1 else f"params={int(point.allowed)}"
        own = allocate(PROFILE, strategy=point.strategy, budget=budget, abstain=False, margins=False)
        assert own.limit == int(point.allowed) == int(plan.limit * point.factor)
        assert point.spent == own.parameters
        assert point.gain == pytest.approx(predicted_gain(problem.candidates, own.decisions))


def test_this_plan_lies_on_it():
    found, _, plan = found_for()
    (same,) = [point for point in found.points if (point.strategy, point.factor) == ("tempered", 1)]
    assert (found.own.allowed, found.own.spent, found.own.gain) == (same.allowed, same.spent, same.gain)
    assert found.own.spent == plan.parameters
    assert found.uniform.strategy == "uniform"
    assert found.uniform.factor == 1


def test_gain_grows_with_the_budget():
    found, *_ = found_for(strategy="budget")
    gains = [point.gain for point in found.points if point.strategy == "budget"]
    assert gains == sorted(gains)
    assert gains[-1] > gains[0]


def test_a_plan_that_abstained_is_uniform_everywhere():
    profiled = attrs.evolve(PROFILE, stability={"gora": 0.0, "fisher": 0.0})
    plan = allocate(profiled, budget="params=r=4", abstain=True)
    assert plan.abstained is not None
    found = frontier(pose(profiled, plan.request), plan.decisions)
    assert {point.strategy for point in found.points} == {"uniform"}


def test_other_resources_are_changed_where_parameters_are_not_bounded():
    found, _, plan = found_for(budget="memory=r=4")
    assert found.resource == "memory"
    assert found.own.spent == pytest.approx(plan.cost.memory)
    assert all(point.spent <= point.allowed * (1 + 1e-9) for point in found.points)


def test_budgets_at_which_nothing_is_possible_have_no_point():
    found, *_ = found_for(budget="params=4000")
    factors = [point.factor for point in found.points if point.strategy == "tempered"]
    assert 0 < len(factors) < len(FACTORS)
    assert max(factors) == FACTORS[-1]


def test_without_a_bound_there_is_none():
    assert found_for(budget=(), strategy="threshold")[0] is None


def test_nothing_of_it_is_logged(tmp_path):
    plan = allocate(PROFILE, budget="params=r=4", abstain=False)
    with tracing.to_file(tmp_path, run_id="x"), tracing.silenced():
        problem = pose(PROFILE, plan.request)
    with tracing.to_file(tmp_path, run_id="y"):
        frontier(problem, plan.decisions)
    assert "decision.made" not in (tmp_path / "trace.jsonl").read_text()
    assert "candidate.refused" not in (tmp_path / "trace.jsonl").read_text()
