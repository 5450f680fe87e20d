"""Marginal cost-benefit analysis over all candidates.

The objective is  utility · G − Σₖ weightₖ · Cₖ,  with G the plan's share of the gain that the budget could buy and Cₖ
its share of the budget for resource k (without one: of what the most expensive candidates take). So with equal weights
for utility and cost, an increment pays while it gains more for its cost than the whole budget would on average.

Each unit offers the increments along the upper concave hull of its (weighted cost, gain) points. They are taken in
order of falling gain for their cost, while their net worth is positive and they fit. Along a hull that ratio never
rises, so no increment is worth taking without those before it. Increments to another method are taken by all units of
equal utility or by none: equal units get equal methods. Where depth has a price, because FLOPs or memory are weighted
or bounded, every lowest trained layer is tried and the best objective wins; units of equal utility are separated by
depth only where nothing could be trained otherwise.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from attrs import frozen

from layerlens_core.plugin import RESOURCES, Candidate, CandidateSet, Context, Cost, Decision, Limits, PlanError, Unit

#: The option of each resource's weight; ``cost`` is that of trainable parameters.
WEIGHT_OPTIONS = {"params": "cost", "flops": "flops", "memory": "memory", "latency": "latency"}
#: The weight of parameters where only other resources have one, so that increments free of those are still ranked.
TIE_BREAK = 1e-9
DEFAULT_WEIGHTS = {"utility": 1.0, "cost": 0.5, "flops": 0.0, "memory": 0.0, "latency": 0.0}


@frozen(kw_only=True)
class Scale:
    """The objective: what gains and costs are measured against, and their weights.

    utility: worth of a gain of 1.
    prices: by resource, worth of 1 of it.
    axis: by resource, what it counts along the hulls: of parameters alone, exactly, where nothing else has a price;
        else of all by their prices, and of parameters where those tie.
    """

    utility: float
    prices: Mapping[str, float]
    axis: Mapping[str, float]

    @classmethod
    def of(cls, candidates: CandidateSet, limits: Limits, weights: Mapping[str, float]) -> "Scale":
        prices, wholes = {}, {}
        for name in RESOURCES:
            dearest = max((getattr(base, name) for base in candidates.depths), default=0.0) + math.fsum(
                unit.candidates.offers.amounts[name].max().item() for unit in candidates.units
            )
            whole = limits.bounds.get(name, dearest)
            prices[name] = weights[WEIGHT_OPTIONS[name]] / whole if whole > 0 else 0.0
            wholes[name] = whole
        free = cls(utility=1.0, prices=dict.fromkeys(RESOURCES, 0.0), axis={"params": 1.0})
        # Where the budget buys nothing, gains are measured against all that there is to gain.
        best = _best(candidates, limits, free).objective or math.fsum(
            unit.candidates.gains.max().item() for unit in candidates.units
        )
        axis = {"params": 1.0}
        if any(price > 0 for name, price in prices.items() if name != "params"):
            axis = prices | {"params": prices["params"] or TIE_BREAK / max(wholes["params"], 1)}
        return cls(utility=weights["utility"] / best if best > 0 else 0.0, prices=prices, axis=axis)

    def price(self, cost: Cost) -> float:
        """What a cost is worth in the objective."""
        return math.fsum(price * getattr(cost, name) for name, price in self.prices.items())

    def along_all(self, amounts: Mapping[str, Any]) -> list[float]:
        """Where costs lie on the axis of the hulls.

        amounts: by resource, a column of numbers.
        """
        columns = [(price * amounts[name]).tolist() for name, price in self.axis.items()]
        return columns[0] if len(columns) == 1 else [math.fsum(row) for row in zip(*columns, strict=True)]

    def net(self, gain: float, cost: Cost) -> float:
        """Gain less cost, in the objective."""
        return self.utility * gain - self.price(cost)


@frozen(kw_only=True)
class Increment:
    """A step along one unit's hull.

    unit: index of the unit.
    gain: what it adds in gain.
    cost: what it adds in cost.
    before: the candidate that it leads from.
    candidate: the candidate that it leads to.
    at: where it ends on the hull's axis.
    ratio: gain for its length on that axis.
    """

    unit: int
    gain: float
    cost: Cost
    before: Candidate
    candidate: Candidate
    at: float
    ratio: float

    @cached_property
    def names(self) -> tuple[str, str]:
        """What it leads from and to, in words."""
        return str(self.before), str(self.candidate)

    @property
    def changes_method(self) -> bool:
        """Whether another method than before is chosen."""
        return self.before.method != self.candidate.method


@frozen(kw_only=True)
class Spending:
    """What was bought, and what was not.

    taken: by unit, the last increment taken.
    refused: by unit, the increment that was refused, and why.
    objective: what it comes to.
    """

    taken: Mapping[int, Increment]
    refused: Mapping[int, tuple[Increment, str]]
    objective: float


def select(candidates: CandidateSet, limits: Limits, context: Context) -> list[Decision]:
    """One candidate for each unit, by falling gain for its cost, while it is worth it and within the limits.

    Options: ``utility``, ``cost``, ``flops``, ``memory`` and ``latency``, the weights of the objective, at least 0.

    Raises `PlanError` for other weights.
    """
    weights = {name: _weight(name, context) for name in DEFAULT_WEIGHTS}
    scale = Scale.of(candidates, limits, weights)
    best = _best(candidates, limits, scale)
    return [
        _decide(unit, best.taken.get(i), best.refused.get(i), scale, candidates.alike)
        for i, unit in enumerate(candidates.units)
        if context.only in (None, unit.name)
    ]


def _best(candidates: CandidateSet, limits: Limits, scale: Scale) -> Spending:
    """The spending with the best objective over the lowest trained layers that matter."""
    hulls = [_hull(i, unit, scale) for i, unit in enumerate(candidates.units)]
    priced = {name for name, price in scale.prices.items() if price > 0}
    if not (candidates.depths and {"flops", "memory"} & (limits.bounds.keys() | priced)):
        return _spend(candidates, hulls, limits, scale, 0)
    utilities = [unit.utility for unit in candidates.units]
    parting = [not set(utilities[:i]).isdisjoint(utilities[i:]) for i in range(len(utilities))]
    for parted in (False, True):
        tried = [_spend(candidates, hulls, limits, scale, i) for i, parts in enumerate(parting) if parts == parted]
        best = max(tried, key=lambda spending: spending.objective, default=None)
        if best is not None and best.taken and best.objective > 0:
            return best
    cause = "no plan that trains anything is worth its cost and within the limits"
    return Spending(taken={}, refused={hull[0].unit: (hull[0], cause) for hull in hulls if hull}, objective=0.0)


def _spend(
    candidates: CandidateSet, hulls: Sequence[Sequence[Increment]], limits: Limits, scale: Scale, lowest: int
) -> Spending:
    """Take increments of units from ``lowest`` on."""
    units = candidates.units
    depth = candidates.base(units[lowest].depth)
    total = depth
    taken: dict[int, Increment] = {}
    refused = {
        hull[0].unit: (hull[0], "a plan that trains this deep is worth less or does not fit")
        for hull in hulls[:lowest]
        if hull
    }
    closed: dict[float, str] = {}
    objective = scale.net(0.0, depth - candidates.base(None))
    # Among equal ratios the smaller increment goes first, so that equal units grow in turn, step by step.
    steps = sorted(
        itertools.chain.from_iterable(hulls[lowest:]),
        key=lambda s: (-s.ratio, s.at, -units[s.unit].utility, *s.names, s.unit),
    )
    peers: dict[tuple[float, str, str], list[Cost]] = {}
    for step in reversed(steps):
        peers.setdefault(_kind(step, units), []).append(step.cost)
    for step in steps:
        utility = units[step.unit].utility
        waiting = peers[_kind(step, units)]
        # Units of equal utility get equal methods: an increment to another method is taken by all of them or by none.
        # Only the sums that are looked at: most increments lead to another size of the same method.
        totals = (
            list(itertools.accumulate(reversed(waiting), initial=total))
            if step.changes_method
            else [total, total + step.cost]
        )
        waiting.pop()
        if step.unit in refused:
            continue
        if scale.net(step.gain, step.cost) <= 0:
            worth, price = scale.utility * step.gain, scale.price(step.cost)
            refused[step.unit] = (step, f"its gain is worth {worth:.3g} and its cost {price:.3g}")
        elif step.changes_method and utility in closed:
            refused[step.unit] = (step, closed[utility])
        elif over := [name for name in limits.bounds if any(name in cost.exceeded(limits) for cost in totals)]:
            cause = f"it does not fit into what is left of {' and '.join(over)}"
            if step.changes_method and waiting:
                cause += f" for all {len(waiting) + 1} layers of equal utility"
            refused[step.unit] = (step, cause)
            closed[utility] = cause
        else:
            taken[step.unit], total = step, total + step.cost
            objective += scale.net(step.gain, step.cost)
    if not taken:
        objective = 0.0
    return Spending(taken=taken, refused=refused, objective=objective)


def _kind(step: Increment, units: Sequence[Unit]) -> tuple[float, str, str]:
    """What increments of units of equal utility have in common."""
    return units[step.unit].utility, *step.names


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


def _hull(index: int, unit: Unit, scale: Scale) -> list[Increment]:
    """Increments of positive gain along the upper concave hull of (axis, gain), from the free candidate."""
    candidates = unit.candidates
    along, gains = scale.along_all(candidates.offers.amounts), candidates.gains.tolist()
    points: list[tuple[float, float, int]] = []
    for at, falling, i in sorted((at, -gain, i) for i, (at, gain) in enumerate(zip(along, gains, strict=True))):
        point = (at, -falling, i)
        if points and point[1] <= points[-1][1]:
            continue  # dominated: costs at least as much and gives no more
        # Points on a straight part of the hull are kept: smaller increments leave less of the budget unspent.
        while len(points) > 1 and _slope(points[-2], points[-1]) < _slope(points[-1], point):
            points.pop()
        points.append(point)
    chosen = [candidates.made[i] for _, _, i in points]
    return [
        Increment(
            unit=index,
            gain=b.gain - a.gain,
            cost=b.cost - a.cost,
            before=a,
            candidate=b,
            at=end[0],
            ratio=_slope(start, end),
        )
        for (start, end), (a, b) in zip(itertools.pairwise(points), itertools.pairwise(chosen), strict=True)
    ]


def _slope(a: tuple[float, float, int], b: tuple[float, float, int]) -> float:
    """Gain for each 1 of length from one point of a hull to the next."""
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else math.inf


def _decide(
    unit: Unit, taken: Increment | None, refused: tuple[Increment, str] | None, scale: Scale, alike: str
) -> Decision:
    stop = f"; stopped before {refused[0].candidate}: {refused[1]}" if refused else "; nothing larger gains more"
    stop += alike
    runner_up = str(refused[0].candidate) if refused else None
    if taken is None:
        return unit.decide("none", reason=f"no candidate is worth its cost{stop}", runner_up=runner_up)
    worth, price = scale.utility * taken.gain, scale.price(taken.cost)
    reason = f"the last step's gain is worth {worth:.3g} and its cost {price:.3g}{stop}"
    return unit.decide(taken.candidate.method, taken.candidate.size, reason=reason, runner_up=runner_up)
