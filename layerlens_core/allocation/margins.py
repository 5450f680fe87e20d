"""How firm a decision is: the smallest change of an input after which a layer would get another method.

Nothing is estimated: every flip that is reported was seen by deciding again with the changed input. An input is
multiplied by `FARTHEST`, and divided by it. If the layer then gets another method, the change is halved (in logarithms)
again and again until the factor is known to three digits. A flip that comes and goes within that range may be missed;
one that is reported is real.
"""

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


def utility_flip(decide: Decide, candidates: CandidateSet, limits: Limits, decision: Decision) -> Flip | None:
    """The smallest change of the layer's own utility that gives it another method, up or down."""
    if decision.utility <= 0:
        return None

    def changed(factor: float) -> str | None:
        units = tuple(
            unit.with_utility(unit.utility * factor) if unit.name == decision.unit else unit
            for unit in candidates.units
        )
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
                attrs.evolve(
                    unit,
                    candidates=tuple(
                        attrs.evolve(c, gain=c.gain / factor) if c.method == method else c for c in unit.candidates
                    ),
                )
                for unit in candidates.units
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
        bounds[name] = int(bounds[name])
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
