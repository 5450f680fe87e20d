"""Which runs are judged: those of the long schedule, of every arm at its own best rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from attrs import frozen

from layerlens_core.comparison.judging.statistics import mean_loss
from layerlens_core.errors import ComparisonError
from layerlens_core.values.comparison import Arm, Result

#: Runs of at least this share of the longest one's samples are long ones, as batches do not divide every number.
_LONG = 0.9


@frozen(kw_only=True, eq=False)
class Runs:
    """The runs by which one arm is judged.

    arm: as its results name it.
    rate: of these runs.
    rates: of all long runs of the arm, in order.
    results: by seed.
    grid: all rates that the arm was tried at, short runs too.
    """

    arm: Arm
    rate: float
    rates: tuple[float, ...]
    results: Mapping[int, Result]
    grid: tuple[float, ...]

    @property
    def diverged(self) -> tuple[int, ...]:
        """Seeds without a finite loss."""
        return tuple(seed for seed, result in self.results.items() if not finite(result))

    def losses(self, seeds: Sequence[int]) -> Any:
        """[seeds, examples], in nats a label."""
        return np.array([self.results[seed].losses for seed in seeds])

    def loss(self, seeds: Sequence[int], labels: tuple[int, ...]) -> float:
        """In nats a label, mean over seeds."""
        return mean_loss(self.losses(seeds), labels)

    def right(self, seeds: Sequence[int]) -> Any:
        """[seeds, examples], share of right answers; none where a run has none."""
        rows = [self.results[seed].right for seed in seeds]
        return np.array(rows) if rows and all(rows) else None


def finite(result: Result) -> bool:
    """Whether a run has a loss of every held-out sample. Samples without labels may have none."""
    return not result.diverged and bool(result.losses)


def chosen(
    results: Sequence[Result], labels: tuple[int, ...], rates: Mapping[str, float]
) -> tuple[tuple[Runs, ...], tuple[str, ...]]:
    """The runs by which each arm is judged, and what there is to say of the choice.

    The longest schedules are judged, by samples, of runs that all held-out samples judged; all else is the sweep of
    rates. An arm's rate is the one whose mean loss over seeds is the least, of those that all seeds of the comparison
    were trained at.

    results: of one setting, in any order; of two of the same job the later counts.
    labels: of every held-out sample.
    rates: by arm's key, a rate that was fixed beforehand.

    Raises `ComparisonError` where results are of several settings, a fixed rate was not trained, losses do not fit the
    labels, or a mean loss is 0.
    """
    if not results:
        raise ComparisonError("there are no results to judge")
    if len(settings := {result.job.setting for result in results}) > 1:
        raise ComparisonError(f"results of {len(settings)} settings cannot be compared: models or data differ")
    whole = [result for result in results if not 0 < result.job.schedule.judged < len(labels)]
    if not whole:
        raise ComparisonError("no run was judged on all held-out samples: there are only runs of a sweep")
    for result in whole:
        _check(result, labels)
    longest = max(map(_samples, whole))
    whole = [result for result in whole if _samples(result) >= _LONG * longest]
    by_arm: dict[str, list[Result]] = {}
    for result in results:
        by_arm.setdefault(result.job.arm.key, []).append(result)
    warnings = [f"{key} was to be trained, and there is no result of it" for key in rates if key not in by_arm]
    found, several = [], False
    wanted = {result.job.seed for result in whole}
    judged = set(map(id, whole))
    for key, own in by_arm.items():
        long = [result for result in own if id(result) in judged]
        if not long:
            warnings.append(f"{key} was not trained for as long as others, and is not judged")
            continue
        runs, missing = _best(key, own, long, wanted, labels, rates.get(key))
        if missing:
            warnings.append(f"{key} lacks {_seeds(missing)}: differences are taken over the seeds that both arms have")
        if not runs.diverged and runs.loss(tuple(runs.results), labels) <= 0:
            raise ComparisonError(f"{key} has a held-out loss of 0, of which no other loss is a multiple")
        several |= key not in rates and len(runs.rates) > 1
        found.append(runs)
    if several:
        warnings.append(
            "rates were chosen by the loss on the held-out examples themselves, which favours arms that were tried at "
            "more rates; fix them beforehand by the sweep to be free of that"
        )
    return tuple(found), tuple(warnings)


def _best(
    key: str, own: Sequence[Result], long: Sequence[Result], wanted: set[int], labels: tuple[int, ...],
    fixed: float | None,
) -> tuple[Runs, set[int]]:  # fmt: skip
    by_rate: dict[float, dict[int, Result]] = {}
    for result in long:
        by_rate.setdefault(result.job.rate, {})[result.job.seed] = result
    if fixed is not None and fixed not in by_rate:
        raise ComparisonError(f"{key} was not trained at its fixed rate {fixed:g}")
    most = max(len(by_seed) for by_seed in by_rate.values())
    candidates = [rate for rate, by_seed in by_rate.items() if len(by_seed) == most] if fixed is None else [fixed]
    rate = min(sorted(candidates), key=lambda each: _mean(by_rate[each], labels))
    by_seed = dict(sorted(by_rate[rate].items()))
    runs = Runs(
        arm=by_seed[min(by_seed)].job.arm, rate=rate, rates=tuple(sorted(by_rate)), results=by_seed,
        grid=tuple(sorted({result.job.rate for result in own})),
    )  # fmt: skip
    return runs, wanted - by_seed.keys()


def _mean(by_seed: Mapping[int, Result], labels: tuple[int, ...]) -> float:
    if not all(map(finite, by_seed.values())):
        return math.inf
    return mean_loss([result.losses for result in by_seed.values()], labels)


def _check(result: Result, labels: tuple[int, ...]) -> None:
    for name, values in (("losses", result.losses), ("right answers", result.right)):
        if values and len(values) != len(labels):
            raise ComparisonError(
                f"{_named(result)} has {name} of {len(values)} held-out samples, and the comparison {len(labels)}"
            )
    if not result.diverged and not result.losses:
        raise ComparisonError(f"{_named(result)} has no losses, and did not diverge")


def made_finite(results: Sequence[Result], labels: tuple[int, ...]) -> tuple[Result, ...]:
    """Results, of which one with a loss that is not finite where there are labels counts as diverged."""
    counted = np.asarray(labels) > 0
    return tuple(
        result
        if result.diverged or len(result.losses) != len(counted) or np.isfinite(np.array(result.losses)[counted]).all()
        else attrs.evolve(result, losses=(), right=(), diverged=True)
        for result in results
    )


def _named(result: Result) -> str:
    return f"{result.job.arm.key} at rate {result.job.rate:g}, seed {result.job.seed},"


def _samples(result: Result) -> int:
    return result.job.schedule.steps * result.job.schedule.batch


def _seeds(seeds: set[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
