"""How firm a decision is: the smallest change of an input after which a layer would get another method.

Nothing is estimated: every flip that is reported was seen by deciding again with the changed input. An input is
multiplied by `FARTHEST`, and divided by it. If the layer then gets another method, the change is halved (in logarithms)
again and again until the factor is known to three digits. A flip that comes and goes within that range may be missed;
one that is reported is real.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.budget import spell
from layerlens_core.errors import LayerLensError
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Limits
from layerlens_core.values.decisions import Decision

FARTHEST = 16.0
HALVINGS = 12
#: With at most so many candidates, and candidates times layers, margins are found without being asked for, where the
#: strategy is one of ours, which then takes a part of a second.
MOST_CANDIDATES, MOST_WORK = 1_000, 16_000

Decide = Callable[[CandidateSet, Limits], Sequence[Decision]]
Subject = Literal["utility", "penalty", "budget"]


@frozen(kw_only=True)
class Flip:
    """A change that was tried, and the method that it led to.

    subject: what was changed.
    name: the layer, the method, or the resource.
    factor: by which the input was multiplied.
    becomes: the candidate that the layer then gets.
    """

    subject: Subject
    name: str
    factor: float
    becomes: str


class OutOfTime(Exception):
    """No more is decided anew."""


def within(decide: Decide, seconds: float) -> Decide:
    """The same, until a time is over; then it raises `OutOfTime`.

    decide: as in `utility_flip`.
    seconds: from now on.
    """
    end = time.monotonic() + seconds

    def timed(candidates: CandidateSet, limits: Limits) -> Sequence[Decision]:
        if time.monotonic() > end:
            raise OutOfTime
        return decide(candidates, limits)

    return timed


def too_many(candidates: CandidateSet, limits: Limits) -> str | None:
    """Why margins are left out unless they are asked for; None where they are found soon.

    It depends on the problem alone, so that the same inputs give the same plan.

    candidates: of all units.
    limits: on the plan's cost.
    """
    count, units = len(candidates.table.gains), len(candidates.units)
    if len(limits.bounds) > 1:
        return f"{' and '.join(limits.bounds)} are bounded together, and deciding anew takes long"
    if count > MOST_CANDIDATES or count * units > MOST_WORK:
        return f"{count:,} candidates of {units:,} layers would have to be decided anew too often"
    return None


def lacks_margins(decisions: Sequence[Decision]) -> bool:
    """Whether some decision may have a margin, and has none."""
    return any(each.margin is None and each.utility > 0 for each in decisions)


def with_margins(
    decide: Decide, candidates: CandidateSet, limits: Limits, decisions: Sequence[Decision]
) -> tuple[Decision, ...]:
    """The decisions with their margins, where the strategy did not give them itself and one is found.

    decide: as in `utility_flip`.
    candidates: of all units.
    limits: on the plan's cost.
    decisions: as they were made.
    """
    return tuple(
        each if each.margin is not None else _with_margin(utility_flip(decide, candidates, limits, each), each)
        for each in decisions
    )


def _with_margin(flip: Flip | None, decision: Decision) -> Decision:
    margin = decision.utility * (flip.factor - 1) if flip else math.inf
    if flip is None or not math.isfinite(margin):
        return decision
    return attrs.evolve(decision, runner_up=flip.becomes, margin=margin)


def utility_flip(decide: Decide, candidates: CandidateSet, limits: Limits, decision: Decision) -> Flip | None:
    """The smallest change of the layer's own utility that gives it another method, up or down."""
    if decision.utility <= 0:
        return None

    def changed(factor: float) -> str | None:
        utility = candidates.by_name[decision.unit].utility * factor
        if not math.isfinite(utility) or utility == 0:
            return None
        units = tuple(unit.with_utility(utility) if unit.name == decision.unit else unit for unit in candidates.units)
        return _method_after(decide, attrs.evolve(candidates, units=units), limits, decision)

    return _nearest("utility", decision.unit, changed)


def penalty_flips(decide: Decide, candidates: CandidateSet, limits: Limits, decision: Decision) -> list[Flip]:
    """For every method, the smallest change of its penalty that gives the layer another method."""
    flips = []
    for method in candidates.methods:
        if method == "none":
            continue

        def changed(factor: float, method: str = method) -> str | None:
            units = tuple(
                attrs.evolve(unit, candidates=unit.candidates.divided(method, factor)) for unit in candidates.units
            )
            return _method_after(decide, attrs.evolve(candidates, units=units), limits, decision)

        flip = _nearest("penalty", method, changed)
        if flip is not None:
            flips.append(flip)
    return flips


def budget_flips(decide: Decide, candidates: CandidateSet, limits: Limits, decision: Decision) -> list[Flip]:
    """For every bounded resource, the smallest change of the bound that gives the layer another method."""
    flips = []
    for name in limits.bounds:

        def changed(factor: float, name: str = name) -> str | None:
            return _method_after(decide, candidates, scaled(limits, name, factor), decision)

        flip = _nearest("budget", name, changed)
        if flip is not None:
            flips.append(flip)
    return flips


def scaled(limits: Limits, name: str, factor: float) -> Limits:
    """The limits with one bound multiplied."""
    bounds: dict[str, Any] = {name: limits.bounds[name] * factor}
    if name == "params":
        # A whole number beyond what a float can hold is so large that its exact size does not matter.
        bounds[name] = int(bounds[name]) if math.isfinite(bounds[name]) else limits.bounds[name]
    return attrs.evolve(limits, **bounds)


def describe(flip: Flip, limits: Limits, utility: float) -> str:
    """A flip in words, with the value of the input that leads to it."""
    if flip.subject == "utility":
        return f"{flip.becomes}, if its utility were {utility * flip.factor:.6f}"
    if flip.subject == "penalty":
        return f"{flip.becomes}, if the penalty of {flip.name} were {flip.factor:.3g} times what it is"
    return f"{flip.becomes}, if the budget were {flip.name}={spell(flip.name, limits.bounds[flip.name] * flip.factor)}"


def _method_after(decide: Decide, candidates: CandidateSet, limits: Limits, before: Decision) -> str | None:
    """The candidate that the layer gets, if its method is not the one that it had before; else None."""
    try:
        with tracing.silenced():
            decisions = decide(candidates, limits)
    except LayerLensError:
        return None  # where no plan is possible, the layer gets no other method
    after = next(decision for decision in decisions if decision.unit == before.unit)
    if after.method == before.method:
        return None
    return f"{after.method} of size {after.size}" if after.size else after.method


def _nearest(subject: Subject, name: str, changed: Callable[[float], str | None]) -> Flip | None:
    up = _towards(subject, name, changed, FARTHEST, within=FARTHEST)
    down = _towards(subject, name, changed, 1 / FARTHEST, within=up.factor if up else FARTHEST)
    return down or up


def _towards(
    subject: Subject, name: str, changed: Callable[[float], str | None], far: float, within: float
) -> Flip | None:
    """The nearest flip between the unchanged input and one that is changed ``far``.

    subject: what is changed.
    name: the layer, the method, or the resource.
    changed: the candidate that a factor leads to, or None where the method stays.
    far: the factor to begin with.
    within: only a flip at a smaller factor than this counts.
    """
    becomes = changed(far)
    if becomes is None:
        return None
    near = 1.0
    for _ in range(HALVINGS):
        if max(near, 1 / near) >= within:
            return None
        middle = (near * far) ** 0.5
        seen = changed(middle)
        if seen is None:
            near = middle
        else:
            far, becomes = middle, seen
    return Flip(subject=subject, name=name, factor=far, becomes=becomes) if max(far, 1 / far) <= within else None
