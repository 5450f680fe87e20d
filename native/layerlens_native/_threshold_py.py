"""Threshold selection in plain Python: the reference for ``_threshold`` and its stand-in."""

from array import array
from bisect import bisect_right


def count_at_or_below(values: "array[float]", thresholds: "array[float]") -> list[int]:
    """For every value, how many of the ascending thresholds are at or below it."""
    return [bisect_right(thresholds, value) for value in values]
