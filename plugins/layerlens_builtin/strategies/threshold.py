"""Methods by thresholds on utility, sizes by utility within the budget.

Thresholds ascend over methods in ascending capacity (none < prefix < adapter < lora); a utility on a
threshold reaches the upper method. They are given, or taken as quantiles of the utilities at hand. Sizes are
apportioned in proportion to utility, and what is left over refines single modules of the most useful layers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from layerlens_builtin.strategies.shares import most_that_fits
from layerlens_core.plugin import (
    Apportionment,
    CandidateSet,
    Claim,
    Context,
    Cost,
    Decision,
    Limits,
    PlanError,
    Unit,
    candidate_refused,
    thresholds_set,
)
from layerlens_native.threshold import quantile
from layerlens_native.threshold import select as reach


def select(candidates: CandidateSet, limits: Limits, context: Context) -> list[Decision]:
    """A method for every unit by thresholds, then sizes that fit the limits.

    Options: ``thresholds`` (utilities) or ``quantiles`` (0 to 1), ascending, comma-separated, one fewer than
    there are methods.

    Raises `PlanError` for methods whose parameters do not grow in proportion to their size.
    """
    for unit in candidates.units:
        for method, targets in unit.targets.items():
            if any(target.per_square for target in targets):
                raise PlanError(
                    f"strategy 'threshold' hands out sizes at a price a step, which {method} does not have, with "
                    "parameters that grow with the square of its size; use tempered, uniform or budget"
                )
    utilities = [unit.utility for unit in candidates.units]
    thresholds, origin = _thresholds(candidates.methods, utilities, context)
    thresholds_set(candidates.methods, thresholds, origin)
    levels = reach(utilities, thresholds)
    reached = [candidates.methods[level] for level in levels]
    methods = [
        _attachable(unit, method, candidates.methods) for unit, method in zip(candidates.units, reached, strict=True)
    ]
    refused = _drop_unaffordable(candidates, methods, limits)
    sizes = _fit(candidates, methods, limits)
    decisions = []
    for index, unit in enumerate(candidates.units):
        if context.only not in (None, unit.name):
            continue
        runner_up, margin = _alternative(unit.utility, levels[index], candidates.methods, thresholds)
        # Quantiles move with the utilities that they are taken from, so the distance to one is no margin.
        fixed = origin == "given" and index not in refused and methods[index] == reached[index]
        decisions.append(
            unit.decide(
                methods[index],
                min(sizes[index].values(), default=0),
                sizes=sizes[index],
                reason=_reason(
                    unit,
                    methods[index],
                    reached[index],
                    candidates.methods,
                    thresholds,
                    index in refused,
                    candidates.alike,
                ),
                runner_up=runner_up,
                margin=margin if fixed else None,
            )
        )
    return decisions


def _thresholds(methods: Sequence[str], utilities: Sequence[float], context: Context) -> tuple[list[float], str]:
    if "thresholds" in context.options and "quantiles" in context.options:
        raise PlanError("give thresholds or quantiles, not both")
    boundaries = len(methods) - 1
    if "thresholds" in context.options:
        return _numbers(context.options["thresholds"], "thresholds", methods), "given"
    if "quantiles" in context.options:
        shares = _numbers(context.options["quantiles"], "quantiles", methods)
        if not all(0 <= share <= 1 for share in shares):
            raise PlanError(f"quantiles lie between 0 and 1: {context.options['quantiles']}")
    else:
        # From 0 on, so that no layer stays frozen unless the budget forces it: one that is frozen wrongly costs much.
        shares = [i / boundaries for i in range(boundaries)]
    named = ", ".join(f"{share:g}" for share in shares)
    return [quantile(utilities, share) for share in shares], f"quantiles {named} of the utilities"


def _numbers(text: str, what: str, methods: Sequence[str]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise PlanError(f"{what} must be numbers separated by commas, but are {text!r}") from None
    if len(numbers) != len(methods) - 1:
        raise PlanError(
            f"{len(methods)} methods ({' < '.join(methods)}) need {len(methods) - 1} {what}, "
            f"but there are {len(numbers)}: {text}"
        )
    if any(map(math.isinf, numbers)):
        raise PlanError(f"{what} must be finite, but are {text}")
    if any(map(math.isnan, numbers)) or sorted(numbers) != numbers:
        raise PlanError(f"{what} must ascend from {methods[0]} to {methods[-1]}: {text}")
    return numbers


def _attachable(unit: Unit, method: str, methods: Sequence[str]) -> str:
    """The method, or the next lower one that can attach to this unit."""
    for lower in reversed(methods[: methods.index(method) + 1]):
        if unit.offers(lower):
            if lower != method:
                candidate_refused(unit.name, method, "it cannot attach to this layer")
            return lower
    return "none"


def _drop_unaffordable(candidates: CandidateSet, methods: list[str], limits: Limits) -> set[int]:
    """Freeze the least useful units until every other one can have its smallest size; edits ``methods``."""
    units = candidates.units
    frozen = Cost()
    least = [unit.cheapest(m).cost if unit.offers(m) else frozen for unit, m in zip(units, methods, strict=True)]

    def fits() -> bool:
        return candidates.total_of(zip(units, least, strict=True)).within(limits)

    dropped: set[int] = set()
    if fits():
        return dropped
    order = sorted(range(len(units)), key=lambda i: (units[i].utility, -i))
    for index, total in zip(order, _left_over(candidates, least, order), strict=True):
        if total.within(limits) and fits():
            break
        if methods[index] == "none":
            continue
        over = ", ".join(
            f"{getattr(total, name):,.6g} of {name}, above {limits.bounds[name]:,.6g}"
            for name in total.exceeded(limits)
        )
        cause = f"the smallest size for every layer as useful as this one would take {over}"
        candidate_refused(units[index].name, methods[index], cause)
        methods[index], least[index] = "none", frozen
        dropped.add(index)
    return dropped


def _left_over(candidates: CandidateSet, costs: Sequence[Cost], order: Sequence[int]) -> list[Cost]:
    """What is spent where the units before each place of an order are frozen, the frozen model included."""
    totals: list[Cost] = []
    spent, lowest = Cost(), None
    for index in reversed(order):
        spent += costs[index]
        depth = candidates.units[index].depth
        if costs[index].params > 0 and (lowest is None or depth < lowest):
            lowest = depth
        totals.append(candidates.base(lowest) + spent)
    return totals[::-1]


def _fit(candidates: CandidateSet, methods: Sequence[str], limits: Limits) -> list[dict[str, int]]:
    """The largest sizes, in proportion to utility, that keep every limit.

    Where other resources than parameters are bounded too, the limit on parameters is lowered until their bounds hold.
    Sizes, and with them all costs, only grow with that limit.
    """
    units = candidates.units
    trained = [index for index, method in enumerate(methods) if method != "none"]
    sizes_within = _Sizes(units, methods)

    def fits(sizes: Sequence[dict[str, int]]) -> bool:
        costs = ((unit, unit.cost(m, s)) for unit, m, s in zip(units, methods, sizes, strict=True))
        return candidates.total_of(costs).within(limits)

    sizes = sizes_within(limits.params)
    if not (limits.bounds.keys() - {"params"}) or not trained or fits(sizes):
        return sizes
    low = sum(units[index].cheapest(methods[index]).parameters for index in trained)
    high = sum(units[index].cost(methods[index], sizes[index]).params for index in trained)
    return most_that_fits(low, high, sizes_within, fits)


class _Sizes:
    """Size by module for every unit: notches in proportion to utility, then what is left, module by module."""

    def __init__(self, units: Sequence[Unit], methods: Sequence[str]) -> None:
        self._units, self._methods = units, methods
        self._trained = [index for index, method in enumerate(methods) if method != "none"]
        self._claims = [_claim(units[index], methods[index]) for index in self._trained]
        self._apportion = Apportionment(self._claims)
        # The most useful layers come first, and in them the most important modules.
        self._places = [
            _Place(index, target.name, target.per_size * notch, notch, unit.sizes(method)[-1])
            for index in sorted(self._trained, key=lambda i: (-units[i].utility, i))
            for unit, method in [(units[index], methods[index])]
            for notch in [unit.notches[method]]
            for target in sorted(unit.targets[method], key=lambda t: -unit.importance.get(t.name, 0.0))
        ]
        self._least = min((place.price for place in self._places), default=0)

    def __call__(self, limit: int | None) -> list[dict[str, int]]:
        """The sizes within a limit on parameters."""
        notches = self._apportion(limit)
        sizes: list[dict[str, int]] = [{} for _ in self._units]
        for index, count in zip(self._trained, notches, strict=True):
            unit, method = self._units[index], self._methods[index]
            sizes[index] = dict.fromkeys((t.name for t in unit.targets[method]), unit.sizes(method)[count - 1])
        if limit is not None:
            spent = sum(c.price + (n - 1) * c.step for c, n in zip(self._claims, notches, strict=True))
            self._refine(sizes, limit - spent)
        return sizes

    def _refine(self, sizes: list[dict[str, int]], left: int) -> None:
        """Raise single modules by a notch, in rounds, until nothing more fits."""
        waiting: Sequence[_Place] = self._places if left >= self._least else ()
        while waiting:
            raised = []
            for place in waiting:
                held = sizes[place.unit]
                if held[place.name] < place.largest and place.price <= left:
                    held[place.name] += place.notch
                    left -= place.price
                    raised.append(place)
            waiting = raised  # what could not be raised never can be: less is left


class _Place(NamedTuple):
    """A module that can be raised by itself: its unit, its name, what a notch costs and is, and its largest size."""

    unit: int
    name: str
    price: int
    notch: int
    largest: int


def _claim(unit: Unit, method: str) -> Claim:
    notch, targets = unit.notches[method], unit.targets[method]
    return Claim(
        utility=max(unit.utility, 0.0),
        price=sum(target.parameters(unit.sizes(method)[0]) for target in targets),
        step=sum(target.per_size * notch for target in targets),
        most=len(unit.sizes(method)),
        group=method,
    )


def _reason(
    unit: Unit,
    method: str,
    reached: str,
    methods: Sequence[str],
    thresholds: Sequence[float],
    refused: bool,
    alike: str,
) -> str:
    at = methods.index(reached)
    bounds = []
    if at > 0:
        bounds.append(f"at or above {thresholds[at - 1]:.4g}")
    if at < len(thresholds):
        bounds.append(f"below {thresholds[at]:.4g}")
    words = f"utility {unit.utility:.4g} is {' and '.join(bounds)}: {reached}"
    words += alike
    if refused:
        return words + "; refused, as the budget cannot give every layer above it its smallest size"
    if method != reached:
        return words + f"; {reached} cannot attach to this layer, so {method}"
    return words


def _alternative(
    utility: float, at: int, methods: Sequence[str], thresholds: Sequence[float]
) -> tuple[str | None, float | None]:
    """The method beyond the nearest threshold, and the change of utility that leads there, where it is a number.

    Upwards it is enough to reach the threshold; downwards the utility must fall below it.
    """
    beyond = []
    if at > 0:
        beyond.append((math.nextafter(thresholds[at - 1], -math.inf) - utility, methods[at - 1]))
    if at < len(thresholds):
        beyond.append((thresholds[at] - utility, methods[at + 1]))
    if not beyond:
        return None, None
    margin, runner_up = min(beyond, key=lambda pair: abs(pair[0]))
    return runner_up, margin if math.isfinite(margin) else None
