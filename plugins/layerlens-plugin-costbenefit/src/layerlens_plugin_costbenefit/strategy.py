"""Marginal cost-benefit analysis over all candidates.

The objective is  utility · G − cost · C  with G the plan's share of the gain that its best candidates could give
together and C its share of the budget (without a budget: of what the most expensive candidates cost).
Each unit offers the increments along the upper concave hull of its (cost, gain) points; increments are taken by
falling gain per parameter while their net worth is positive and they fit. Along a hull that ratio never rises, so
no increment is worth taking without those before it.
"""

import itertools

from attrs import frozen

from layerlens_core.allocation import Context
from layerlens_core.budget import Limits
from layerlens_core.candidates import Candidate, CandidateSet, Unit
from layerlens_core.decisions import Decision
from layerlens_core.errors import PlanError

DEFAULT_WEIGHTS = {"utility": 1.0, "cost": 0.5}


@frozen(kw_only=True)
class Increment:
    """A step along one unit's hull: what it adds in gain and parameters, and the candidate that it leads to."""

    unit: int
    gain: float
    parameters: int
    candidate: Candidate

    @property
    def ratio(self) -> float:
        """Gain a parameter."""
        return self.gain / self.parameters


def select(candidates: CandidateSet, limits: Limits, context: Context) -> list[Decision]:
    """One candidate a unit, by falling gain a parameter, while worth it and within the limits.

    Options: ``utility`` and ``cost``, the weights of the objective, at least 0. Raises `PlanError` for others.
    """
    weights = {name: _weight(name, context) for name in DEFAULT_WEIGHTS}
    best = sum(max(candidate.gain for candidate in unit.candidates) for unit in candidates.units)
    dearest = sum(max(candidate.parameters for candidate in unit.candidates) for unit in candidates.units)
    whole = limits.parameters if limits.parameters is not None else dearest
    # An increment pays when utility · gain / best > cost · parameters / whole.
    worth = weights["cost"] * best / (weights["utility"] * whole) if weights["utility"] and whole else float("inf")
    hulls = [_hull(index, unit) for index, unit in enumerate(candidates.units)]
    chosen: dict[int, Increment] = {}
    refusal: dict[int, tuple[Increment, str]] = {}
    left = whole
    # Among equal ratios the smaller candidate goes first, so that equal units grow together.
    steps = sorted((s for hull in hulls for s in hull), key=lambda s: (-s.ratio, s.candidate.parameters, s.unit))
    for step in steps:
        if step.unit in refusal:
            continue
        if step.ratio <= worth:
            refusal[step.unit] = (
                step,
                f"gain a parameter {step.ratio:.3g} is not above the {worth:.3g} that pays",
            )
        elif step.parameters > left:
            refusal[step.unit] = (
                step,
                f"{step.parameters:,} more parameters do not fit in the {left:,} left",
            )
        else:
            chosen[step.unit], left = step, left - step.parameters
    return [_decide(unit, chosen.get(i), refusal.get(i), worth) for i, unit in enumerate(candidates.units)]


def _weight(name: str, context: Context) -> float:
    text = context.options.get(name)
    if text is None:
        return DEFAULT_WEIGHTS[name]
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise PlanError(f"the weight {name!r} must be a number of at least 0, but is {text!r}")
    return weight


def _hull(index: int, unit: Unit) -> list[Increment]:
    """Increments of positive gain along the upper concave hull of (parameters, gain), from the free candidate."""
    points: list[Candidate] = []
    for candidate in sorted(unit.candidates, key=lambda c: (c.parameters, -c.gain)):
        if points and candidate.gain <= points[-1].gain:
            continue  # dominated: costs at least as much and gives no more
        # Points on a straight stretch stay: smaller steps leave less of the budget unspent.
        while len(points) > 1 and _slope(points[-2], points[-1]) < _slope(points[-1], candidate):
            points.pop()
        points.append(candidate)
    return [
        Increment(unit=index, gain=b.gain - a.gain, parameters=b.parameters - a.parameters, candidate=b)
        for a, b in itertools.pairwise(points)
    ]


def _slope(a: Candidate, b: Candidate) -> float:
    return (b.gain - a.gain) / (b.parameters - a.parameters)


def _decide(unit: Unit, taken: Increment | None, refused: tuple[Increment, str] | None, worth: float) -> Decision:
    stop = f"; stopped before {_name(refused[0].candidate)}: {refused[1]}" if refused else "; nothing larger gains more"
    runner_up = _name(refused[0].candidate) if refused else None
    if taken is None:
        return unit.decide("none", reason=f"no candidate is worth its cost{stop}", runner_up=runner_up)
    reason = f"the last step gains {taken.ratio:.3g} a parameter, above the {worth:.3g} that pays{stop}"
    return unit.decide(taken.candidate.method, taken.candidate.size, reason=reason, runner_up=runner_up)


def _name(candidate: Candidate) -> str:
    return f"{candidate.method} of size {candidate.size}" if candidate.size else candidate.method
