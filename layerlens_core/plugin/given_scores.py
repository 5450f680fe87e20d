"""What metrics and aggregators give, checked where it is given, so that every error names who gave what for whom."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from layerlens_core.errors import PluginError, nearest
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.plugin.protocols import HalvedScores
from layerlens_core.values.consistency.numbers import finite, shown
from layerlens_core.values.statistics import ModuleStatistics


def score_given(origin: object, result: Any, argument: object) -> Any:
    """What a metric gave, as plain floats.

    origin: whom an error names.
    result: the score of a module; of an active metric scores by layer or module, several repeats of them, or those of
        halves beside them.
    argument: what the metric was called with.

    Raises `PluginError`.
    """
    if isinstance(argument, ModuleStatistics):
        score = finite(result)
        if score is None:
            raise PluginError(
                f"{origin} gave {shown(result)} for {argument.module}; a score is one finite number, neither text nor "
                "tensor"
            )
        return score
    return _active_scores(origin, result, argument) if isinstance(argument, ActiveProfile) else result


Scores = dict[str, float | tuple[float, float]]


def _active_scores(origin: object, result: Any, profile: ActiveProfile) -> Scores | tuple[Scores, ...] | HalvedScores:
    """Scores by name; of a metric that repeats what it does, those of every repeat; or those beside halves'."""
    if isinstance(result, HalvedScores):
        return _halved_scores(origin, result, profile)
    if not (isinstance(result, Sequence) and result and all(isinstance(repeat, Mapping) for repeat in result)):
        return _unit_scores(origin, result, profile)
    repeats = tuple(_unit_scores(origin, repeat, profile) for repeat in result)
    pair = next((unit for scores in repeats for unit, score in scores.items() if isinstance(score, tuple)), None)
    if pair is not None:
        raise PluginError(
            f"{origin} gave a standard error for {pair} in one of several repeats; errors follow from their spread"
        )
    return repeats


def _halved_scores(origin: object, result: HalvedScores, profile: ActiveProfile) -> HalvedScores:
    if not (isinstance(result.halves, Sequence) and len(result.halves) == 2):
        raise PluginError(
            f"{origin} must give the scores of two halves of the samples, but gave {shown(result.halves)}"
        )
    scores, *halves = (_bare_scores(origin, each, profile) for each in (result.scores, *result.halves))
    return HalvedScores(scores=scores, halves=(halves[0], halves[1]))


def _bare_scores(origin: object, result: Any, profile: ActiveProfile) -> dict[str, float]:
    found: dict[str, float] = {}
    for unit, score in _unit_scores(origin, result, profile).items():
        if isinstance(score, tuple):
            raise PluginError(
                f"{origin} gave a standard error for {unit} beside halves of the samples; give one of both"
            )
        found[unit] = score
    return found


def _unit_scores(origin: object, result: Any, profile: ActiveProfile) -> Scores:
    kind, units = profile.granularity, profile.units
    if not isinstance(result, Mapping):
        raise PluginError(f"{origin} must give a number by name of {kind}, but gave {shown(result)}")
    known = frozenset(units)
    unknown = [name for name in result if name not in known]
    missing = [name for name in units if name not in result]
    field = "scored" if kind == "layer" else "modules"
    if unknown:
        raise PluginError(
            f"{origin} gave a score for {unknown[0]!r}, which is none of the {kind}s that it was to score "
            f"({field} of its ActiveProfile).{nearest(str(unknown[0]), units)}"
        )
    if missing:
        raise PluginError(f"{origin} gave no score for {', '.join(missing[:5])}; it must score every {kind} in {field}")
    scores = {unit: _unit_score(origin, result[unit], unit) for unit in units}
    bare = [unit for unit, score in scores.items() if not isinstance(score, tuple)]
    if bare and len(bare) < len(scores):
        raise PluginError(f"{origin} gave no standard error for {bare[0]}, but for others; give it for all or none")
    return scores


def _unit_score(origin: object, given: Any, unit: str) -> float | tuple[float, float]:
    contract = "a score is one finite number, or a pair of such a number and its standard error"
    if isinstance(given, tuple):
        if len(given) != 2:
            raise PluginError(f"{origin} gave a tuple of {len(given)} for {unit}; {contract}")
        value, error = map(finite, given)
        if value is None:
            raise PluginError(f"{origin} gave {shown(given[0])} for {unit}; {contract}")
        if error is None or error < 0:
            raise PluginError(
                f"{origin} gave {shown(given[1])} as the standard error of {unit}; it is a finite number of at least 0"
            )
        return value, error
    value = finite(given)
    if value is None:
        raise PluginError(f"{origin} gave {shown(given)} for {unit}; {contract}")
    return value


def utilities_given(origin: object, result: Any, columns: object) -> list[Any]:
    """What an aggregator gave, computed whole; `layerlens_core.allocation.utilities.aggregate` checks the numbers.

    origin: whom an error names.
    result: anything that can be gone through, such as a generator, also an endless one.
    columns: that it was called with; one value more than they have is taken, so that too many are noticed.

    Raises `PluginError`.
    """
    if not isinstance(result, Iterable) or isinstance(result, (str, bytes, Mapping)):
        raise PluginError(f"{origin} must give one utility for each unit, in order, but gave {shown(result)}")
    longest = max((len(column) for column in columns.values()), default=0) if isinstance(columns, Mapping) else None
    return list(result if longest is None else islice(result, longest + 1))
