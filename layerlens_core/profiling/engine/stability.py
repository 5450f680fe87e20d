"""How far a ranking of layers can be trusted: does one half of the samples rank them as the other does?"""

import math
from collections.abc import Callable, Sequence

import numpy as np

#: Random ways to halve the samples.
SPLITS = 16


def split_half(score: Callable[[Sequence[int]], Sequence[float]], groups: int, *, seed: int) -> float | None:
    """Mean Spearman correlation between the layers' scores from two random halves of the groups.

    Each half is half the data, so the ranking by all of it is more stable than this says. None for fewer than four
    groups or three layers, or where scores tie throughout.

    score: gives each layer's score from these groups alone.
    groups: how many there are.
    seed: draws the halves.
    """
    if groups < 4:
        return None
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(SPLITS):
        order = generator.permutation(groups)
        first, second = (sorted(half.tolist()) for half in (order[: groups // 2], order[groups // 2 :]))
        correlation = rank_correlation(score(first), score(second))
        if correlation is not None:
            found.append(correlation)
    return math.fsum(found) / len(found) if found else None


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's correlation, ties at their mean rank; None for fewer than three values, or all of them equal."""
    if len(one) < 3:
        return None
    a, b = (_ranks(values) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else None


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, where, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    ranks: np.ndarray[tuple[int], np.dtype[np.float64]] = (below + (counts - 1) / 2)[where]
    return ranks
