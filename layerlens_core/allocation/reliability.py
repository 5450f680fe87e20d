"""Scores that come with a standard error count only as far as the error cannot explain them.

Units whose scores differ by no more than their errors are to be treated alike. So each score vᵢ with error sᵢ moves
towards the mean m of all, and what the error may explain of its distance from there is taken away:

    θᵢ = m + (vᵢ − m) · max(0, 1 − (z sᵢ / (vᵢ − m))²)

That is the estimator of James and Stein, towards the grand mean (Efron and Morris 1975, JASA 70:311), with the factor
taken for each unit by itself as by Breiman's non-negative garrote (1995, Technometrics 37:373): it is continuous, takes
almost nothing from what is far beyond its error, and nothing at all where the error is 0. z is the normal quantile at
which, of n units without any difference, one or more would stand out in 5 % of all profiles (Bonferroni). m is at least
0, and a θᵢ below 0 is shrunk towards 0 in the same way: what cannot be told from zero is never negative.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from layerlens_core.values.profile import Profile

#: How often noise alone may make any unit stand out.
LEVEL = 0.05
#: The stability below which a ranking is more chance than order.
DOUBTFUL = 0.5


def discounted(values: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Scores without what their standard errors may explain, in the same unit.

    Where nothing can be told from zero and the mean is not above it, all units are alike: all get 1, of any unit, as
    only proportions count from here on. Scores that are all exactly zero stay so.

    values: one for each unit, finite.
    errors: their standard errors, in the same order.
    """
    largest = max((abs(number) for number in (*values, *errors)), default=0.0)
    if largest == 0:
        return list(values)
    # Dividing by the largest first keeps sums and differences from overflowing.
    scaled = [value / largest for value in values]
    multiple = quantile(len(values))
    widths = [multiple * error / largest for error in errors]
    mean = max(0.0, math.fsum(scaled) / len(scaled))
    shrunk = []
    for value, width in zip(scaled, widths, strict=True):
        found = _towards(mean, value, width)
        shrunk.append(found if found >= 0 else _towards(0.0, value, width))
    if not any(shrunk) and any(values):
        return [1.0] * len(values)
    return [value * largest for value in shrunk]


def told_from_zero(value: float, error: float, units: int) -> bool:
    """Whether a score differs from zero by more than noise makes any of so many units differ.

    value: the score.
    error: its standard error.
    units: how many scores there are.
    """
    return abs(value) > quantile(units) * error


def doubts(profile: Profile) -> list[str]:
    """Sentences that warn of metrics whose ranking is mostly chance, and say what to do; most often none.

    profile: what was measured.
    """
    found = []
    for scores in profile.scores:
        values = scores.by_layer(profile.inventory)
        doubt = _doubt(values, scores.errors, profile.stability.get(scores.metric))
        if doubt:
            found.append(f"{scores.metric}: {doubt}; profile with more samples, or leave this metric out")
    return found


def warned(profile: Profile) -> Profile:
    """The profile, after warning the caller's caller of all `doubts`."""
    for doubt in doubts(profile):
        warnings.warn(doubt, stacklevel=3)
    return profile


def _doubt(values: Mapping[str, float], errors: Mapping[str, float], stability: float | None) -> str:
    if all(layer in errors for layer in values):
        told = (told_from_zero(value, errors[layer], len(values)) for layer, value in values.items())
        if any(values.values()) and not any(told):
            return "no layer can be told from 0 at its standard error"
    elif min(values.values()) < 0:
        return "scores are negative, and no standard error says whether that is noise"
    if stability is not None and stability < DOUBTFUL:
        return f"halves of the samples hardly rank the layers alike ({stability:.2f}), so its order is mostly chance"
    return ""


def quantile(units: int) -> float:
    """The multiple of its standard error that the noise of any of so many units exceeds with probability `LEVEL`."""
    return NormalDist().inv_cdf(1 - LEVEL / (2 * max(units, 1)))


def _towards(centre: float, value: float, width: float) -> float:
    distance = value - centre
    if abs(distance) <= width:
        return centre
    ratio = width / abs(distance)
    return value if ratio == 0 else centre + distance * (1 - ratio) * (1 + ratio)
