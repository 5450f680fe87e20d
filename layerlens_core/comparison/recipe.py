"""From a comparison to the run's recipe."""

from layerlens_core.comparison.compared import Comparison
from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.values.plan import Plan
from layerlens_core.values.recipe import Recipe

#: The arm that is the run's own plan.
PLANNED = "plan"


def recipe_of(comparison: Comparison, plan: Plan) -> Recipe:
    """What the comparison says about training the plan, and whether to train it.

    comparison: of the plan's run.
    plan: of the run.
    """
    keys = {arm.key: arm for arm in comparison.arms}
    rates = {key: rate for key in keys if (rate := comparison.rate(key)) is not None}
    budget = next((text for text in plan.request.budget if text.startswith("params=")), "")
    planned = [arm for arm in keys.values() if arm.name == PLANNED and _same(arm.budget, budget)]
    planned = planned or [arm for arm in keys.values() if arm.name == UNIFORM and _same(arm.budget, budget)]
    found = comparison.verdict
    return Recipe(
        plan=plan.id,
        setting=comparison.setting,
        rate=rates.get(planned[0].key) if planned else None,
        rates=rates,
        scale=plan.scale,
        schedule=comparison.schedule,
        epochs=comparison.schedule.steps * comparison.schedule.batch / comparison.samples,
        recommended={each.budget: each.arm for each in found.recommended} if found else {},
        budget=budget,
        sentence=" ".join(found.summary) if found else "rates were looked for; nothing was trained in full",
    )


def _same(one: str, other: str) -> bool:
    return one.removeprefix("params=") == other.removeprefix("params=")
