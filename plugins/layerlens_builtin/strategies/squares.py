"""Whole sizes whose squares are in proportion to weights, for exactly a budget: of cores, which have n² parameters."""

import math
from collections.abc import Sequence

#: Halvings of the interval in which the common factor lies.
HALVINGS = 100


def share_squares(
    weights: Sequence[float], most: Sequence[int], limit: int, least: Sequence[int] | None = None
) -> list[int]:
    """Sizes n from ``least`` to ``most``, with Σ n² within the limit and n² ∝ weight as far as that goes.

    Sizes are √(c·weight) rounded down, c as large as the limit allows; what is left is handed out one step at a time,
    to whoever lies furthest below its share, while a step fits.

    weights: at least 0, one a place; where none is above 0, all weigh alike.
    most: largest size of each place.
    limit: on the sum of squares.
    least: smallest size of each place; None for 1 everywhere.

    Raises ``ValueError`` where the smallest sizes exceed the limit.
    """
    least = [1] * len(weights) if least is None else least
    if limit < _spent(least):
        raise ValueError(f"the smallest sizes take {_spent(least)}, above the limit of {limit}")
    largest = max(weights, default=0.0)
    shares = [weight / largest for weight in weights] if largest > 0 else [1.0] * len(weights)
    low, high = 0.0, 1.0
    while high < 2.0**100 and _spent(sizes := _sizes(high, shares, least, most)) <= limit and sizes != list(most):
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _spent(_sizes(middle, shares, least, most)) <= limit else (low, middle)
    sizes = _sizes(low, shares, least, most)
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


def _sizes(factor: float, shares: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    return [
        max(low, min(high, math.isqrt(math.floor(factor * share))))
        for share, low, high in zip(shares, least, most, strict=True)
    ]


def _spent(sizes: Sequence[int]) -> int:
    return sum(size * size for size in sizes)
