"""The rule that decides on every unit, within the limits."""

from collections.abc import Iterable

from layerlens_core.plugin import CandidateSet, Context, Decision, Limits, PlanError


def select(candidates: CandidateSet, limits: Limits, context: Context) -> Iterable[Decision]:
    """LoRA of one rank for the most useful units, as many as fit.

    candidates: every unit, with all that could be done to it and what that costs.
    limits: on what all decisions cost together, with the frozen model.
    context: with the option ``rank``, 8 where it is not given.

    Raises `PlanError` for a rank that is no whole number above 0.
    """
    rank = _rank(context.options.get("rank", "8"))
    decisions = {
        unit.name: unit.decide("none", reason="not among the most useful that fit") for unit in candidates.units
    }
    for unit in sorted(candidates.units, key=lambda unit: -unit.utility):
        sizes = [size for size in unit.sizes("lora") if size <= rank]
        if sizes:
            tried = decisions | {unit.name: unit.decide("lora", sizes[-1], reason="among the most useful that fit")}
            if candidates.total(tried.values()).within(limits):
                decisions = tried
    return decisions.values()


def _rank(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise PlanError(f"the option 'rank' is a whole number above 0, not {text!r}")
    return int(text)
