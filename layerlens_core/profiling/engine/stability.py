"""How far scores can be trusted: do halves of the samples rank layers alike, and what are standard errors?"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

#: Random ways to halve the samples.
SPLITS = 16
#: Of those that are drawn from standard errors, which cost next to nothing.
DRAWS = 256
#: Parts of the samples that are left out in turn.
BLOCKS = 16
#: The fewest groups of samples that tell anything of stability or errors.
FEWEST_GROUPS = 4


def split_half(score: Callable[[Sequence[int]], Sequence[float]], groups: int, *, seed: int) -> float | None:
    """Mean Spearman correlation between the layers' scores from two random halves of the groups.

    Each half is half the data, so the ranking by all of it is more stable than this says. None for fewer than four
    groups or three layers, or where scores tie throughout.

    score: gives each layer's score from these groups alone.
    groups: how many there are.
    seed: draws the halves.
    """
    if groups < FEWEST_GROUPS:
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


def split_half_of_errors(values: Sequence[float], errors: Sequence[float], *, seed: int) -> float | None:
    """What `split_half` is expected to give for scores of which only the standard errors are known.

    The scores are themselves spread by their errors, so what is taken for the layers' real differences is their spread
    less the mean squared error (the moment estimate of random effects). Two halves of the data are drawn around these,
    with √2 times the errors. None for fewer than three layers, or where scores tie throughout.

    values: of the layers.
    errors: their standard errors, in the same order.
    seed: draws the halves.
    """
    largest = max((abs(number) for number in (*values, *errors)), default=0.0)
    if len(values) < 3 or largest == 0:
        return None
    centred, wide = np.asarray(values) / largest, np.asarray(errors) / largest
    centred = centred - centred.mean()
    spread, noise = float(centred @ centred) / (len(values) - 1), float(wide @ wide) / len(values)
    real = centred * math.sqrt(max(0.0, 1 - noise / spread)) if spread > 0 else centred
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(DRAWS):
        one, other = (real + math.sqrt(2) * wide * generator.standard_normal(len(values)) for _ in range(2))
        correlation = rank_correlation(one.tolist(), other.tolist())
        if correlation is not None:
            found.append(correlation)
    return math.fsum(found) / len(found) if found else None


def jackknife(score: Callable[[Sequence[int]], Mapping[str, float]], groups: int, *, seed: int) -> dict[str, float]:
    """Standard errors of scores over the samples, by the delete-a-block jackknife (Efron and Tibshirani 1993, ch. 11).

    It knows nothing of how scores follow from the samples, so it serves ratios and differences too. Empty for fewer
    than four groups.

    score: gives scores by name from these groups alone.
    groups: how many there are.
    seed: draws the blocks.
    """
    if groups < FEWEST_GROUPS:
        return {}
    blocks = np.array_split(np.random.default_rng(seed).permutation(groups), min(groups, BLOCKS))
    found = [score(sorted(set(range(groups)) - set(block.tolist()))) for block in blocks]
    errors = {}
    for name in found[0]:
        without = [each[name] for each in found]
        mean = math.fsum(without) / len(without)
        squares = math.fsum((value - mean) * (value - mean) for value in without)
        errors[name] = math.sqrt(squares * (len(without) - 1) / len(without))
    return errors


def errors_of_repeats(repeats: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Standard errors of the means over independent repeats.

    A few repeats tell little of one unit's spread, and much of all units' together: the variance of a unit is its own,
    and at least the mean of all units'. Empty for fewer than two repeats.

    repeats: scores by name, of the same names each.
    """
    count = len(repeats)
    if count < 2:
        return {}
    largest = max((abs(value) for repeat in repeats for value in repeat.values()), default=0.0) or 1.0
    variances = {}
    for name in repeats[0]:
        values = [repeat[name] / largest for repeat in repeats]  # so that no square overflows
        mean = math.fsum(values) / count
        variances[name] = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    common = math.fsum(variances.values()) / max(len(variances), 1)
    return {name: largest * math.sqrt(max(own, common) / count) for name, own in variances.items()}


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
