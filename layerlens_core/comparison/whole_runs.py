"""The runs that are judged: every arm with all seeds, at the rates that were given, or at the one that was found."""

from collections.abc import Callable, Mapping, Sequence

import attrs

from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rate_search import Curve
from layerlens_core.comparison.rates import JUDGED
from layerlens_core.values.comparison import Arm, Job, Result, Schedule, Setting

#: How often a rate is halved at which a whole run falls off the cliff that no short run showed.
HALVINGS = 3
#: The share by which a loss is clearly worse than another.
CLEARLY = 0.1

#: Does jobs of a stage of the work.
Done = Callable[[str, Sequence[Job]], list[Result]]


def at_given_rates(
    arms: Sequence[Arm],
    rates: Sequence[float],
    schedule: Schedule,
    setting: Setting,
    options: CompareOptions,
    done: Done,
) -> list[Result]:
    """Every arm with all seeds at every rate.

    arms: to train.
    rates: to train them at.
    schedule: of the runs.
    setting: of the comparison.
    options: with the seeds.
    done: does the jobs.
    """
    return done(
        "arms", [job for arm in arms for rate in rates for job in _seeds(arm, rate, schedule, setting, options)]
    )


def at_found_rates(
    arms: Sequence[Arm],
    curves: Mapping[str, Curve],
    schedule: Schedule,
    setting: Setting,
    options: CompareOptions,
    done: Done,
) -> tuple[list[Result], dict[str, float]]:
    """Every arm with all seeds at its own rate, which is halved where a whole run falls off; and the rates by arm.

    arms: to train.
    curves: how their rates were found, by key.
    schedule: of the runs.
    setting: of the comparison.
    options: with the seeds.
    done: does the jobs.
    """
    rates = {key: curve.rate for key, curve in curves.items()}
    results: list[Result] = []
    left = list(arms)
    for _ in range(HALVINGS + 1):
        new = done("arms", [job for arm in left for job in _seeds(arm, rates[arm.key], schedule, setting, options)])
        results += new
        fallen = {result.job.arm.key for result in new if fell_off(result, curves[result.job.arm.key], setting.labels)}
        left = [arm for arm in left if arm.key in fallen]
        if not left:
            break
        rates |= {arm.key: rates[arm.key] / 2 for arm in left}
    else:
        rates |= {arm.key: rates[arm.key] * 2 for arm in left}  # of which there are results
    return results, rates


def fell_off(result: Result, curve: Curve, labels: tuple[int, ...]) -> bool:
    """Whether a whole run ended clearly worse than the best of the short ones, as it does beyond the cliff.

    A little worse is no cliff: a whole run may learn its training samples by heart, or nothing at all.

    result: of the whole run.
    curve: of its arm.
    labels: of every held-out sample; those count that judged the short runs.
    """
    if result.diverged:
        return True
    return not attrs.evolve(result, losses=result.losses[:JUDGED]).loss(labels) <= (1 + CLEARLY) * curve.least


def _seeds(arm: Arm, rate: float, schedule: Schedule, setting: Setting, options: CompareOptions) -> list[Job]:
    return [
        Job(arm=arm, rate=rate, seed=options.seed + seed, schedule=schedule, setting=setting.id)
        for seed in range(options.seeds)
    ]
