"""The largest weighted score of a unit, of either sign."""

from collections.abc import Mapping, Sequence


def combine(columns: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """For every unit i the largest wₘ xₘᵢ over the metrics m with a weight above 0; weights sum to 1."""
    used = [(weights[name], column) for name, column in columns.items() if weights[name] > 0]
    units = len(used[0][1])
    return [max(weight * column[i] for weight, column in used) for i in range(units)]
