"""From a comparison to the run's recipe."""

from layerlens_core.comparison.arms.budgets import budget_of, is_own, own_budget
from layerlens_core.comparison.compared import Comparison
from layerlens_core.comparison.judging.judgement import PLANNED, UNIFORM
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
        plan=plan.id,
        setting=comparison.setting,
        rate=rates.get(rated) if rated else None,
        rates=rates,
        scale=plan.scale,
        schedule=comparison.schedule,
        epochs=comparison.schedule.steps * comparison.schedule.batch / comparison.samples,
        recommended={each.budget: each.arm for each in found.recommended} if found else {},
        budget=own_budget(plan) or "",
        sentence=" ".join(found.summary) if found else "rates were looked for; nothing was trained in full",
    )
