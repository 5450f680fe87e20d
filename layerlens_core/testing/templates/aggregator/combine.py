"""The rule that makes one utility of all scores of a unit."""

from collections.abc import Mapping, Sequence


def combine(columns: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """One utility for each unit, in the units' order: its smallest score of those that weigh anything.

    columns: by metric, a normalised score for each unit.
    weights: by metric; they sum to 1.
    """
    counting = [column for metric, column in columns.items() if weights[metric] > 0]
    return [min(scores) for scores in zip(*counting, strict=True)]
