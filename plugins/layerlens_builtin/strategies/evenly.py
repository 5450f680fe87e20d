"""How deep to train and at which equal size: every layer, unless memory or FLOPs force the lowest ones to be frozen."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from layerlens_builtin.strategies.freezing import halvings, priced
from layerlens_core.plugin import BudgetError, CandidateSet, Limits, readable

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

#: Resources that grow with the depth of training, whatever the sizes.
DEEP = ("memory", "flops")


@frozen(kw_only=True)
class Even:
    """One size for all units from one on.

    first: place of the lowest trained unit; those below it stay frozen.
    steps: the size of all others: that place, from 1 on, among those that their methods offer.
    methods: by unit; ``none`` for frozen ones.
    notes: what was forced, with its price.
    """

    first: int
    steps: int
    methods: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def sizes(self, candidates: CandidateSet) -> list[dict[str, int]]:
        """Size by target for every unit."""
        found: list[dict[str, int]] = []
        for unit, method in zip(candidates.units, self.methods, strict=True):
            if method == "none":
                found.append({})
                continue
            offered = unit.sizes(method)
            size = offered[min(self.steps, len(offered)) - 1]
            found.append({target.name: size for target in unit.targets[method]})
        return found


def evenly(candidates: CandidateSet, limits: Limits, most: int | None = None) -> Even:
    """The lowest trained unit and the largest equal size that keep all limits.

    Every unit gets the method of the largest capacity that can attach to it. None is frozen where all can have the
    smallest size. Where memory or FLOPs do not allow that, every depth that they allow is weighed: what its size gains
    (each doubling of the parameters) against what the layers below it cost (`layerlens_builtin.strategies.freezing`).
    Where it is parameters alone that do not suffice, as few layers as need be are frozen.

    candidates: of all units, in model order.
    limits: on the whole plan's cost.
    most: notches at most, or the smallest size that there is.

    Raises `BudgetError` where not even the uppermost unit can have the smallest size, with the least that would do.
    """
    import numpy

    methods = tuple(map(candidates.largest_method, candidates.units))
    totals = _totals(candidates, methods)
    fits = numpy.ones(totals["params"].shape, dtype=bool)
    for name in limits.bounds:
        fits &= totals[name] <= limits.most(name)
    if not fits.any():
        raise BudgetError(_too_small(totals, limits))
    depths = [unit.depth / max(_layers(candidates), 1) for unit in candidates.units]
    first = _lowest(fits, totals, limits, depths)
    steps = int(fits[first].sum())  # costs only grow with the size
    if most is not None:
        steps = min(steps, _steps_up_to(most, candidates, methods[first:]))
    chosen = ("none",) * first + methods[first:]
    return Even(first=first, steps=steps, methods=chosen, notes=_notes(candidates, first))


def _steps_up_to(most: int, candidates: CandidateSet, methods: Sequence[str]) -> int:
    """How many sizes of the methods of the uppermost units have so many notches at most; at least 1."""
    units = candidates.units[len(candidates.units) - len(methods) :]
    return max(
        1,
        *(
            sum(size <= most * unit.notches[method] for size in unit.sizes(method))
            for unit, method in zip(units, methods, strict=True)
        ),
    )


def _totals(candidates: CandidateSet, methods: tuple[str, ...]) -> "dict[str, NDArray[Any]]":
    """By resource, what all units from one on cost at one size, the frozen model included; [units, sizes]."""
    import numpy

    longest = max(len(unit.sizes(method)) for unit, method in zip(candidates.units, methods, strict=True))
    totals = {}
    for name in ("params", "flops", "memory", "latency"):
        amounts = numpy.zeros((len(methods), longest), dtype=numpy.int64 if name == "params" else numpy.float64)
        for place, (unit, method) in enumerate(zip(candidates.units, methods, strict=True)):
            offers = unit.candidates.offers
            own = offers.amounts[name][offers.rows[method]]
            amounts[place, : len(own)], amounts[place, len(own) :] = own, own[-1]
        base = numpy.array([[getattr(candidates.base(unit.depth), name)] for unit in candidates.units])
        totals[name] = base + amounts[::-1].cumsum(axis=0)[::-1]
    return totals


def _lowest(
    fits: "NDArray[numpy.bool_]", totals: "dict[str, NDArray[Any]]", limits: Limits, depths: Sequence[float]
) -> int:
    """The place of the lowest unit to train.

    fits: whether all units from one on can have a size; [units, sizes].
    totals: what that costs, as `_totals` gives it.
    limits: on the whole plan's cost.
    depths: by unit, the share of the model that lies below it.
    """
    import numpy

    possible = numpy.flatnonzero(fits[:, 0])
    if fits[0, 0] or not set(DEEP) & limits.bounds.keys():
        return int(possible[0])
    largest = fits.cumsum(axis=1).argmax(axis=1)  # the last size that fits, as costs only grow with it
    params = [float(totals["params"][place, largest[place]]) for place in possible.tolist()]
    worth = [
        (math.log2(count) - halvings(depths[place]) if count > 0 else -math.inf, -place)
        for count, place in zip(params, possible.tolist(), strict=True)
    ]
    return -max(worth)[1]


def _notes(candidates: CandidateSet, first: int) -> tuple[str, ...]:
    if not first:
        return ()
    return (f"the budget forces it: {priced(candidates.units[first].depth, _layers(candidates))}",)


def _layers(candidates: CandidateSet) -> int:
    return len(candidates.depths) - 1 if candidates.depths else len(candidates.units)


def _too_small(totals: "dict[str, NDArray[Any]]", limits: Limits) -> str:
    least = {name: totals[name][:, 0].min().item() for name in limits.bounds}
    over = [name for name in limits.bounds if least[name] > limits.most(name)] or list(limits.bounds)
    return "the smallest size of the uppermost layers alone takes " + " and ".join(
        f"{readable(name, least[name])} of {name}, and the budget is {readable(name, limits.bounds[name])}"
        for name in over
    )
