"""From a comparison to the run's recipe."""

import math
from collections.abc import Mapping

from layerlens_core.comparison.arms.budgets import budget_of, is_own, own_budget
from layerlens_core.comparison.compared import SCHEMA, VERSION, Comparison
from layerlens_core.comparison.judging.judgement import PLANNED, UNIFORM
from layerlens_core.files import documents
from layerlens_core.values.plan import Plan
from layerlens_core.values.recipe import Recipe


def recipe_of(comparison: Comparison, plan: Plan) -> Recipe:
    """What the comparison says about training the plan, and whether to train it.

    comparison: of the plan's run.
    plan: of the run.
    """
    rates = {arm.key: rate for arm in comparison.arms if (rate := comparison.rate(arm.key)) is not None}
    own = [arm for arm in comparison.arms if is_own(plan, budget_of(arm.budget).texts())]
    rated = next((arm.key for name in (PLANNED, UNIFORM) for arm in own if arm.name == name), None)
    found = comparison.verdict
    return Recipe(
        plan=plan.digest,
        profile=plan.profile,
        comparison=documents.digest(comparison, schema=SCHEMA, version=VERSION),
        setting=comparison.setting,
        rate=rates.get(rated) if rated else None,
        rates=rates,
        groups=_groups(comparison, plan, rates, rates.get(rated) if rated else None),
        scale=plan.scale,
        schedule=comparison.schedule,
        epochs=comparison.schedule.steps * comparison.schedule.batch / comparison.samples,
        recommended={each.budget: each.arm for each in found.recommended} if found else {},
        budget=own_budget(plan) or "",
        sentence=" ".join(found.summary) if found else "rates were looked for; nothing was trained in full",
    )


def _groups(comparison: Comparison, plan: Plan, rates: Mapping[str, float], planned: float | None) -> dict[str, float]:
    """By method of the plan, the rate of the arm that trains by it alone and is nearest to it in parameters.

    comparison: with its arms.
    plan: of the run.
    rates: by arm and budget.
    planned: the plan's own rate, for methods of which there is no such arm.
    """
    found = {}
    for method in sorted({decision.method for decision in plan.decisions if decision.parameters}):
        own = sum(decision.parameters for decision in plan.decisions if decision.method == method)
        alone = [arm for arm in comparison.arms if arm.key in rates and arm.parameters and arm.methods == {method}]
        nearest = min(alone, key=lambda arm: abs(math.log(arm.parameters / own)), default=None)
        rate = planned if nearest is None else rates[nearest.key]
        if rate is not None:
            found[method] = rate
    return found
