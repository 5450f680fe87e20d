"""From raw scores to utilities: normalised exactly once, weighted by keys that must match.

``RawScores`` go in, ``Utilities`` come out, and nothing else in the program scales a score. The types make sure of it:
what is already normalised is refused.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from layerlens_core.allocation.reliability import discounted
from layerlens_core.errors import ScoreError, nearest
from layerlens_core.plugin.protocols import Combine
from layerlens_core.values.consistency.numbers import finite, shown
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.scores import Granularity, Normalizer, RawScores, Utilities


def aggregate(
    scores: Sequence[RawScores],
    inventory: Inventory,
    *,
    weights: Mapping[str, float] | None = None,
    normalizer: Normalizer = "share",
    combine: Combine,
    aggregator: str,
    granularity: Granularity = "layer",
) -> Utilities:
    """Normalise every metric once, and combine the normalised scores into one utility for each unit.

    scores: raw, of each metric.
    inventory: of the model, which says what modules a layer has.
    weights: one for each metric; None weighs all alike.
    normalizer: makes raw scores comparable (`normalize`); of scores with standard errors it gets what is beyond them
        (`layerlens_core.allocation.reliability`).
    combine: what an `AggregatorProvider` loads; it gets normalised scores, and weights that sum to 1.
    aggregator: its name.
    granularity: what the units are, layers or modules.

    Raises `ScoreError` where something other than `RawScores` comes in, where the weights' keys are not exactly the
    metrics, where a weight is negative or all are zero, where two metrics score different units, and where the
    aggregator gives anything but one finite number a unit.
    """
    checked = check_weights(_names(scores), weights)
    if granularity not in get_args(Granularity):
        raise ScoreError(f"units are layers or modules, not {granularity!r}")
    columns: dict[str, dict[str, float]] = {}
    for item in scores:
        if granularity == "module" and item.granularity != "module":
            raise ScoreError(f"metric {item.metric!r} scores layers and cannot rank modules")
        columns[item.metric] = dict(item.values) if granularity == "module" else item.by_layer(inventory)
    units = _common_units(columns, inventory, granularity)
    raw = {name: tuple(column[unit] for unit in units) for name, column in columns.items()}
    errors = {item.metric: tuple(item.errors[unit] for unit in units) for item in scores if _has_errors(item, units)}
    reliable = {name: discounted(raw[name], errors[name]) if name in errors else raw[name] for name in raw}
    normalized = {name: tuple(normalize(column, normalizer)) for name, column in reliable.items()}
    values = _utilities(combine(normalized, _shares_of(checked)), units, aggregator)
    return Utilities(
        units=units,
        values=values,
        raw=raw,
        errors=errors,
        normalized=normalized,
        weights=checked,
        normalizer=normalizer,
        aggregator=aggregator,
    )


def _names(scores: Sequence[RawScores]) -> list[str]:
    """The metrics' names. Raises `ScoreError` for anything but `RawScores`, and for a metric that comes twice."""
    for item in scores:
        if not isinstance(item, RawScores):
            raise ScoreError(
                f"aggregation takes RawScores, but got {type(item).__name__}; "
                "values that are normalised already must not be normalised again"
            )
    names = [item.metric for item in scores]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ScoreError(f"metric {twice!r} is there twice; each metric is given once")
    return names


def _common_units(
    columns: Mapping[str, Mapping[str, float]], inventory: Inventory, granularity: Granularity
) -> tuple[str, ...]:
    """The units that all metrics score, in model order. Raises `ScoreError` where they score different ones."""
    order = [m.name for m in inventory.modules] if granularity == "module" else [u.name for u in inventory.layers]
    first, of_first = next(iter(columns.items()))
    units = tuple(unit for unit in order if unit in of_first)
    for name, column in columns.items():
        differing = sorted(set(column) ^ set(units))
        if differing:
            raise ScoreError(f"metrics {first!r} and {name!r} score different units: {', '.join(differing[:5])}")
    return units


def _has_errors(scores: RawScores, units: Sequence[str]) -> bool:
    """Whether every unit has a standard error. Raises `ScoreError` where only some of them have."""
    missing = [unit for unit in units if unit not in scores.errors]
    if missing and len(missing) < len(units):
        raise ScoreError(f"metric {scores.metric!r} has no standard error for {missing[0]}, but for others")
    return bool(units) and not missing


def _utilities(given: Iterable[object], units: Sequence[str], aggregator: str) -> tuple[float, ...]:
    """What an aggregator gave, as floats. Raises `ScoreError` that names the aggregator, the unit and what it is."""
    found = list(given)
    if len(found) != len(units):
        raise ScoreError(
            f"aggregator {aggregator!r} must give {len(units)} finite utilities, one for each unit, but gave "
            + (f"more: {', '.join(map(shown, found[:3]))} …" if len(found) > len(units) else str(len(found)))
        )
    values = tuple(map(finite, found))
    for unit, value, what in zip(units, values, found, strict=True):
        if value is None:
            raise ScoreError(f"aggregator {aggregator!r} gave {shown(what)} for {unit}; a utility is one finite number")
    return tuple(value for value in values if value is not None)


def _shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to 1."""
    try:
        total = math.fsum(weights.values())
    except OverflowError:  # each is finite, but not their sum
        total = math.inf
    if not 1e-290 <= total < math.inf:  # 1 / total would not be finite, or inexact
        largest = max(weights.values())
        return _shares_of({name: weight / largest for name, weight in weights.items()})
    return {name: weight / total for name, weight in weights.items()}


def check_weights(metrics: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """The weights, in the order of the metrics. Raises `ScoreError` that lists both sets of names."""
    if not metrics:
        raise ScoreError("there is nothing to aggregate: no metric was profiled")
    if weights is None:
        return dict.fromkeys(metrics, 1.0)
    if not isinstance(weights, Mapping):
        raise ScoreError(f"weights are given by name of metric, such as {{{metrics[0]!r}: 1.0}}, but got {weights!r}")
    unknown = sorted(str(name) for name in weights if name not in metrics)
    missing = sorted(name for name in metrics if name not in weights)
    if unknown or missing:
        hints = "".join(nearest(name, metrics) for name in unknown)
        raise ScoreError(
            f"the weights are for {', '.join(sorted(map(str, weights))) or 'nothing'}, "
            f"but the metrics are {', '.join(sorted(metrics))}. "
            f"Unknown: {', '.join(unknown) or 'none'}; without a weight: {', '.join(missing) or 'none'}.{hints}"
        )
    for name, weight in weights.items():
        number = finite(weight)
        if number is None or number < 0:
            text = shown(weight) if number is None else f"{number:g}"
            raise ScoreError(f"the weight of {name} is {text}; weights are numbers, finite and at least 0")
    if not any(weights.values()):
        raise ScoreError(f"all weights are 0 ({', '.join(sorted(weights))}); at least one must be above 0")
    return {name: float(weights[name]) for name in metrics}


def normalize(values: Sequence[float], normalizer: Normalizer) -> list[float]:
    """Make raw scores comparable between metrics; the one place in the program that does.

    With every normalizer the result is unchanged when all values are multiplied by a positive constant:

    ``share``   xᵢ / Σ|x|
    ``max``     xᵢ / max|x|
    ``rank``    fractional rank of |xᵢ| among n, in (0, 1], ties share their mean rank; 0 stays 0
    ``zscore``  Φ((xᵢ − mean) / standard deviation), the normal distribution function, in (0, 1)
    ``log``     the share of ln(1 + |xᵢ| / mean|x|)

    Signs are kept by all but ``zscore``, and values that are all zero stay zero (½ under ``zscore``). Results are
    finite and lie in [−1, 1]. The absolute results of ``share`` and ``log`` sum to 1, unless all are zero.

    values: one for each unit.
    normalizer: which.

    Raises `ScoreError` for a value that is no finite number, and for a normalizer that there is not.
    """
    if normalizer not in get_args(Normalizer):
        raise ScoreError(
            f"no normalizer is named {normalizer!r}; there are: {', '.join(get_args(Normalizer))}."
            + nearest(normalizer, get_args(Normalizer))
        )
    if not values:
        return []
    wrong = [shown(value) for value in values if finite(value) is None]
    if wrong:
        raise ScoreError(f"normalizer {normalizer!r} got {', '.join(wrong[:3])}; scores must be finite numbers")
    # Dividing by the largest first keeps sums and squares from overflowing and settles the all-zero case.
    largest = max(abs(value) for value in values)
    scaled = [value / largest for value in values] if largest > 0 else [0.0] * len(values)
    if normalizer == "zscore":
        mean = math.fsum(scaled) / len(scaled)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / len(scaled))
        return [0.5 * math.erfc(-(v - mean) / spread / math.sqrt(2)) if spread > 0 else 0.5 for v in scaled]
    if largest == 0 or normalizer == "max":
        return scaled
    if normalizer == "share":
        return _shares(scaled)
    if normalizer == "log":
        mean = math.fsum(map(abs, scaled)) / len(scaled)
        return _shares([math.copysign(math.log1p(abs(value) / mean), value) for value in scaled])
    return _fractional_ranks(scaled)


def _shares(values: Sequence[float]) -> list[float]:
    total = math.fsum(map(abs, values))
    return [value / total for value in values]


def _fractional_ranks(values: Sequence[float]) -> list[float]:
    sizes = sorted(map(abs, values))
    positions: dict[float, list[int]] = {}
    for position, size in enumerate(sizes, start=1):
        positions.setdefault(size, []).append(position)
    mean_rank = {size: sum(at) / len(at) for size, at in positions.items()}
    return [math.copysign(mean_rank[abs(value)] / len(values), value) if value != 0 else 0.0 for value in values]
