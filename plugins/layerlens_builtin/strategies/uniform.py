"""One size everywhere: LoRA of one rank on every linear module, the largest that the budget allows."""

from layerlens_builtin.strategies.evenly import evenly
from layerlens_builtin.strategies.reach import within_reach
from layerlens_core.plugin import CORE, CandidateSet, Context, Limits, Selection


def select(candidates: CandidateSet, limits: Limits, context: Context) -> Selection:
    """The method of the largest capacity at one size for all units; `evenly` says what happens under small budgets.

    Raises `BudgetError` where no unit can have the smallest size.
    """
    candidates, chosen = within_reach(candidates, limits)
    # Uniform LoRA of a named rank adapts modules outside the layers too, whose share is not spent on more rank.
    even = evenly(candidates, limits, most=None if CORE in candidates.methods else context.rank)
    sizes = even.sizes(candidates)
    decisions = tuple(
        unit.decide(
            method, max(by_target.values(), default=0), sizes=by_target, reason=_reason(method, by_target, chosen)
        )
        for unit, method, by_target in zip(candidates.units, even.methods, sizes, strict=True)
        if context.only in (None, unit.name)
    )
    return Selection(decisions=decisions, notes=even.notes)


def _reason(method: str, sizes: dict[str, int], chosen: str) -> str:
    if method == "none":
        return "the budget is too small for all layers, and the lowest ones are frozen first"
    return f"{method} of one size, {max(sizes.values())}, everywhere: the largest that the budget allows{chosen}"
