"""Whole sizes whose squares are in proportion to weights, for exactly a budget: of cores, which have n² parameters."""

import math
from collections.abc import Sequence

#: Halvings of the interval in which the common factor lies.
HALVINGS = 100


def share_squares(weights: Sequence[float], most: Sequence[int], limit: int) -> list[int]:
    """Sizes n of at least 1 and at most ``most``, with Σ n² within the limit and n² ∝ weight as far as that goes.

    Sizes are √(c·weight) rounded down, c as large as the limit allows; what is left is handed out one step at a time,
    to whoever lies furthest below its share, while a step fits.

    weights: at least 0, one a place; where none is above 0, all weigh alike.
    most: largest size of each place.
    limit: on the sum of squares.

    Raises ``ValueError`` where a size of 1 everywhere exceeds the limit.
    """
    if limit < len(weights):
        raise ValueError(f"one each takes {len(weights)}, above the limit of {limit}")
    largest = max(weights, default=0.0)
    shares = [weight / largest for weight in weights] if largest > 0 else [1.0] * len(weights)
    low, high = 0.0, 1.0
    while high < 2.0**100 and _spent(sizes := _sizes(high, shares, most)) <= limit and sizes != list(most):
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _spent(_sizes(middle, shares, most)) <= limit else (low, middle)
    sizes = _sizes(low, shares, most)
    left = limit - _spent(sizes)
    # One step of size n costs 2n + 1; what could not take one never can, as less is left.
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i] - math.sqrt(low * shares[i]), i))
    while order:
        raised = []
        for i in order:
            if sizes[i] < most[i] and 2 * sizes[i] + 1 <= left:
                left -= 2 * sizes[i] + 1
                sizes[i] += 1
                raised.append(i)
        order = raised
    return sizes


def _sizes(factor: float, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    return [
        max(1, min(limit, math.isqrt(math.floor(factor * share)))) for share, limit in zip(shares, most, strict=True)
    ]


def _spent(sizes: Sequence[int]) -> int:
    return sum(size * size for size in sizes)
