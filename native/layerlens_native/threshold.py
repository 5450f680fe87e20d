"""Choose an alternative for every value by ascending thresholds.

``IMPLEMENTATION`` says which kernel serves: ``"native"``, or ``"pure"`` where the extension was not
built or ``LAYERLENS_PURE=1`` asks for the twin.
"""

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise

from layerlens_native._selector import select_kernel

_kernel, IMPLEMENTATION = select_kernel("threshold")


def select(values: Sequence[float], thresholds: Sequence[float]) -> list[int]:
    """The index of the alternative that each value reaches, from 0 to ``len(thresholds)``.

    A value on a threshold reaches the upper alternative. Raises ``ValueError`` where a value or a
    threshold is not finite, or where the thresholds do not ascend (equal neighbours are allowed: the
    alternative between them is then never chosen).
    """
    if not all(map(math.isfinite, values)):
        raise ValueError("values must be finite")
    if not all(map(math.isfinite, thresholds)):
        raise ValueError("thresholds must be finite")
    if any(low > high for low, high in pairwise(thresholds)):
        raise ValueError(f"thresholds must ascend: {list(thresholds)}")
    counts: list[int] = _kernel.count_at_or_below(array("d", values), array("d", thresholds))
    return counts


def quantile(values: Sequence[float], q: float) -> float:
    """The ``q``-quantile with linear interpolation between order statistics (Hyndman & Fan 1996, type 7).

    values: at least one.
    q: from 0 to 1.
    """
    if not values:
        raise ValueError("a quantile of no values")
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile lies between 0 and 1: {q}")
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    # Equal neighbours are returned as they are: a + t·(a − a) is a, whatever the rounding of t.
    apart = ordered[above] - ordered[below]
    if math.isinf(apart):  # of numbers near the two ends of what a float holds
        return ordered[below] * (1 - (position - below)) + ordered[above] * (position - below)
    return ordered[below] + (position - below) * apart
