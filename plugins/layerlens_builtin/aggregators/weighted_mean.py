"""The weighted arithmetic mean of normalised scores."""

import math
from collections.abc import Mapping, Sequence


def combine(columns: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """Σₘ wₘ xₘᵢ for every unit i; weights sum to 1."""
    used = [(weights[name], column) for name, column in columns.items()]
    units = len(used[0][1])
    return [math.fsum(weight * column[i] for weight, column in used) for i in range(units)]
