"""Find the learning rate of every arm by short full schedules, for at most 0.7 of a run's samples.

The best rate is worth more than any allocation, and no formula gives it; short runs do. Rates a factor of four apart
are tried on a sixteenth of the samples, then the two beside the best at a factor of two, and more where the best of all
is the last that was tried. The best, and the one below it, then run on an eighth.

A long run wants a lower rate than a short one does, and beside the best rate lies a cliff. So the logarithm of the two
losses' ratio is carried on to the whole run, linear in the logarithm of the samples, and where the lower rate will be
ahead it is taken. The other way round nothing is carried on: where a short run does well with a high rate, a long one
may diverge. Halving a rate changes little near its best, and noise decides; so where an arm does about as well at the
rate of uniform at the same budget, it takes that, and the two differ by nothing but their sizes.

A head that is new has to be learned first, which takes steps rather than samples: after a sixteenth of them a
classifier of many classes has hardly begun, and the rate that begins soonest is too high for the whole run. So where a
model has such a head, short runs take more steps of smaller batches on the same samples, and where the lower of the two
rates is ahead already, half of it is tried too (docs/evidence.md).
"""

import math
from collections.abc import Callable, Iterable, Sequence

import attrs

from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.comparison.rate_search import Curve, Search
from layerlens_core.errors import DataError
from layerlens_core.values.comparison import Arm, Job, Result, Schedule
from layerlens_core.values.plan import CORE

#: Tried first, a factor of four apart.
COARSE = (6.25e-4, 2.5e-3, 1e-2)
#: The same of arms that train cores alone, whose best rates were 1e-2 to 8e-2 (docs/evidence.md).
COARSE_OF_CORES = (5e-3, 2e-2, 8e-2)
#: How often one rate more is tried beyond the last.
BEYOND = 2
#: Shares of the run's samples.
SHORT, LONG = 1 / 16, 1 / 8
#: What the batch of short runs is divided by where the head is new.
NEW_HEAD = 4
#: Steps of a short run at least, and held-out samples that it is judged on.
FEWEST_STEPS, JUDGED = 12, 256
#: Losses that differ by this share are about the same.
NEAR = 0.01

#: Runs jobs, and gives their results.
Run = Callable[[Sequence[Job]], Iterable[Result]]


def find_rates(
    arms: Sequence[Arm],
    schedule: Schedule,
    setting: str,
    run: Run,
    labels: tuple[int, ...],
    *,
    seed: int = 0,
    new_head: bool = False,
) -> dict[str, Curve]:
    """By arm key, the rate for a whole run and how it was found. Arms are tried beside each other.

    arms: to find rates for.
    schedule: of the whole run.
    setting: digest of what all jobs share.
    run: trains.
    labels: of each held-out sample, by which losses are weighted.
    seed: of all short runs.
    new_head: whether the model has a task head that trains from its start, so that short runs take smaller batches.

    Raises `DataError` where every rate diverges.
    """
    divisor = min(NEW_HEAD if new_head else 1, schedule.batch)
    short = _shortened(schedule, SHORT, FEWEST_STEPS, divisor)
    long = _shortened(schedule, LONG, 2 * FEWEST_STEPS, divisor)
    searches = {arm.key: Search(arm, short, long, schedule) for arm in arms}

    def tried(schedule: Schedule, rates_of: Callable[[Search], Iterable[float]]) -> None:
        jobs = {}
        for key, search in searches.items():
            for rate in rates_of(search):
                if (schedule.steps, rate) not in search.losses:
                    jobs[key, rate] = Job(arm=search.arm, rate=rate, seed=seed, schedule=schedule, setting=setting)
        losses = {result.job.id: result.loss(labels) for result in run(list(jobs.values()))}
        for (key, rate), job in jobs.items():
            searches[key].losses[schedule.steps, rate] = losses[job.id]

    tried(short, lambda search: first_rates(search.arm))
    tried(short, lambda search: (search.best / 2, search.best * 2))
    for _ in range(BEYOND):
        tried(short, Search.beyond)
    if long.steps > short.steps:
        tried(long, lambda search: (search.best, search.best / 2))
        if new_head:
            tried(long, Search.lower)
    for key, search in searches.items():
        if not any(map(math.isfinite, search.losses.values())):
            least = min(first_rates(search.arm))
            raise DataError(f"{key} diverges at every rate from {least:g} on; are the data's labels finite?")
    curves = {key: search.curve() for key, search in searches.items()}
    return {arm.key: _as_uniform(curves[arm.key], curves.get(f"{UNIFORM} {arm.budget}")) for arm in arms}


def first_rates(arm: Arm) -> Sequence[float]:
    """The rates that are tried first: cores want higher ones than everything else.

    arm: to find a rate for.
    """
    return COARSE_OF_CORES if arm.methods == {CORE} else COARSE


def weaknesses(curves: Iterable[Curve]) -> list[str]:
    """What makes rates less certain than they look, in words.

    curves: by which they were found.
    """
    curves = list(curves)
    told = []
    if ends := [curve.arm for curve in curves if curve.edge]:
        told.append(f"the best rate of {_several(ends)} is the last that was tried: a better one may lie beyond")
    if steep := [curve.arm for curve in curves if curve.steep]:
        told.append(
            f"the loss of {_several(steep)} still fell fast at the end of the short runs, which then say little about "
            "a whole one: try half the rate too (--lr RATE,RATE)"
        )
    if flat := [curve.arm for curve in curves if curve.share > 1]:
        told.append(
            f"the whole run is so short that finding the rate of {_several(flat)} took more samples than it has"
        )
    return told


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shortened(schedule: Schedule, share: float, fewest: int, divisor: int) -> Schedule:
    """A share of the samples, in so many times more steps of smaller batches."""
    short = schedule.shortened(share, fewest=math.ceil(fewest / divisor), judged=JUDGED)
    batch = schedule.batch // divisor
    steps = short.steps * schedule.batch // batch
    return attrs.evolve(short, steps=steps, batch=batch, warmup=round(short.warmup * steps / short.steps))


def _as_uniform(curve: Curve, uniform: Curve | None) -> Curve:
    """The curve with uniform's rate, where that is about as good by the longest runs that have both."""
    if uniform is None or uniform.rate == curve.rate:
        return curve
    for steps in sorted({point.steps for point in curve.points}, reverse=True):
        losses = {point.rate: point.loss for point in curve.points if point.steps == steps and point.loss is not None}
        if curve.rate in losses and uniform.rate in losses:
            near = losses[uniform.rate] <= (1 + NEAR) * losses[curve.rate]
            return attrs.evolve(curve, rate=uniform.rate) if near else curve
    return curve
