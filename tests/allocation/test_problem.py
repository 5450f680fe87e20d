"""From a request to a problem: what was left open is resolved, and what cannot work is refused before it is tried."""

import attrs
import pytest

from layerlens_core.allocation.allocate import plan_for
from layerlens_core.allocation.problem import pose
from layerlens_core.demo.scenarios import profile_of
from layerlens_core.errors import BudgetError, LayerLensError, PlanError
from layerlens_core.values.costs import Training
from layerlens_core.values.request import Request

PROFILE = profile_of([float(i + 1) for i in range(12)])
REQUEST = Request(strategy="budget", budget=("params=r=4",))


def test_what_was_left_open_is_resolved():
    resolved = pose(attrs.evolve(PROFILE, settings={"dtype": "bfloat16"}), REQUEST).request
    assert resolved.weights == {"sensitivity": 1.0}
    assert resolved.methods == ("none", "lora")
    assert resolved.penalties == {"lora": 1.0}
    assert resolved.training == Training(dtype="bfloat16")


def test_what_was_asked_for_stays():
    asked = attrs.evolve(
        REQUEST, weights={"sensitivity": 3.0}, methods=("prefix",), penalties={"prefix": 2.0},
        training=Training(batch=1, dtype="float16"),
    )  # fmt: skip
    resolved = pose(attrs.evolve(PROFILE, settings={"dtype": "bfloat16"}), asked).request
    assert resolved == attrs.evolve(asked, methods=("none", "prefix"), granularity="layer", abstain=False)


@pytest.mark.parametrize("strategy", ["threshold", "cost-benefit", "budget"])
def test_a_plans_own_request_gives_the_plan_again(strategy):
    plan = plan_for(PROFILE, attrs.evolve(REQUEST, strategy=strategy))
    assert plan_for(PROFILE, plan.request) == plan
    assert pose(PROFILE, plan.request).request == plan.request


def test_a_problem_can_be_solved_with_other_candidates_and_limits():
    problem = pose(PROFILE, REQUEST)
    spent = sum(decision.parameters for decision in problem.decide())
    assert 0 < spent <= problem.limits.params
    half = attrs.evolve(problem.limits, params=problem.limits.params // 2)
    assert sum(decision.parameters for decision in problem.decide(limits=half)) <= half.params < spent
    fewer = attrs.evolve(problem.candidates, units=problem.candidates.units[:3])
    assert [decision.unit for decision in problem.decide(candidates=fewer)] == [unit.name for unit in fewer.units]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"options": {"quantile": "0.5"}}, PlanError, r"strategy 'budget' has no option 'quantile'"),
        ({"methods": ("none",)}, PlanError, "the only method is 'none'"),
        ({"methods": ("loar",)}, LayerLensError, "Did you mean 'lora'"),
        ({"methods": ("lora", "lora-experts")}, PlanError, "no layer of BertModel has a place where lora-experts"),
        ({"penalties": {"loar": 1.0}}, PlanError, r"for the method 'loar', but there are: .*Did you mean 'lora'"),
        ({"penalties": {"lora": 0.0}}, PlanError, "the penalty of lora is 0; penalties are finite and above 0"),
        ({"penalties": {"lora": float("inf")}}, PlanError, "the penalty of lora is inf"),
        (
            {"budget": ("params=10",)},
            BudgetError,
            "allows 10 trainable parameters, but the cheapest candidate, lora",
        ),
        (
            {"budget": ("flops=1",)},
            BudgetError,
            r"allows .* of flops, but the cheapest plan that trains anything",
        ),
        ({"budget": ("latency=1ms",), "methods": ("adapter",)}, LayerLensError, "latency"),
    ],
)
def test_what_cannot_work_is_refused(change, error, said):
    with pytest.raises(error, match=said):
        pose(PROFILE, attrs.evolve(REQUEST, **change))
