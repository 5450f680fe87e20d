"""Budgets of a comparison: as they are typed, and that at which the run's own plan is compared as it is."""

import re
from collections.abc import Sequence

from layerlens_core.allocation.budget import Budget, readable
from layerlens_core.comparison.judging.judgement import PLANNED, UNIFORM
from layerlens_core.values.comparison import Arm
from layerlens_core.values.plan import Plan

#: The arm that is bounded as a plan by several bounds is, where uniform LoRA on all layers is not.
BOUND_UNIFORM = "strategy:uniform"
#: Share of its bound on parameters from which on a plan counts as one of that many.
SPENT = 0.99
_RANK = re.compile(r"(params\s*=\s*)?r\s*=\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})", re.IGNORECASE)


def budget_of(text: str) -> Budget:
    """A comparison's budget: as `Budget.parse` reads it, or ``r=4`` for ``params=r=4``. Raises `BudgetError`."""
    match = _RANK.fullmatch(text.strip())
    return Budget(params=f"r={match[2]}") if match else Budget.parse(text)


def rank_of(text: str) -> int | None:
    """The rank of a budget that is what uniform LoRA takes, ``r=4``; None for any other, ``r=0.5`` among them."""
    match = _RANK.fullmatch(text.strip())
    return int(match[2]) if match and match[2].isdigit() else None


def own_budget(plan: Plan) -> str | None:
    """The budget at which a comparison has the plan as it is. It bounds parameters alone, so that uniform keeps to it.

    It is the plan's own bound on parameters; or as many as the plan trains, where it has no such bound or its other
    bounds leave more than a hundredth of that. None for a plan that trains nothing.

    plan: of the run.
    """
    typed = plan.request.params_budget
    if typed and plan.limit and (not other_bounds(plan) or plan.parameters >= SPENT * plan.limit):
        return typed
    return f"params={plan.parameters}" if plan.parameters else None


def other_bounds(plan: Plan) -> tuple[str, ...]:
    """The bounds of a plan on anything but parameters.

    plan: of the run.
    """
    return tuple(text for text in plan.request.budget if not _of_parameters(text))


def bounds_at(plan: Plan, budget: Sequence[str]) -> tuple[str, ...]:
    """What bounds a plan by the run's request at another budget: one of parameters alone takes the place of the plan's.

    plan: of the run.
    budget: of a comparison, as requests hold it.
    """
    return (*budget, *other_bounds(plan)) if all(map(_of_parameters, budget)) else tuple(budget)


def is_own(plan: Plan, budget: Sequence[str]) -> bool:
    """Whether the run's plan is, as it is, the one of this budget.

    plan: of the run.
    budget: of a comparison, as requests hold it.
    """
    return tuple(budget) == (own_budget(plan),) or bounds_at(plan, budget) == plan.request.budget


def told_of_bounds(plan: Plan, arms: Sequence[Arm]) -> tuple[str, ...]:
    """That uniform is not held to all that bounds the plan beside it, a sentence for each budget.

    plan: of the run.
    arms: of its comparison.
    """
    by_key = {arm.key: arm for arm in arms}
    told = []
    for budget in dict.fromkeys(arm.budget for arm in arms):
        planned, uniform = by_key.get(f"{PLANNED} {budget}"), by_key.get(f"{UNIFORM} {budget}")
        texts = budget_of(budget).texts()
        others = [text for text in bounds_at(plan, texts) if text not in texts]
        if planned is None or uniform is None or not others:
            continue
        told.append(f"{uniform.key} is not held to {' and '.join(others)}, as the plan is")
        if planned.memory and uniform.memory:
            taken, less = readable("memory", uniform.memory), readable("memory", planned.memory)
            told[-1] += f": a step is counted as {taken} of memory, and the plan's as {less}"
        if f"{BOUND_UNIFORM} {budget}" in by_key:
            told[-1] += f"; {BOUND_UNIFORM} keeps to all bounds"
    return tuple(told)


def _of_parameters(text: str) -> bool:
    return text.startswith("params=")
