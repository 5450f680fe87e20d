"""Find the learning rate of every arm by short full schedules, for at most 0.7 of a run's steps.

The best rate is worth more than any allocation, and no formula gives it; short runs do. Rates a factor of four apart
are tried for a sixteenth of the steps, then the two beside the best at a factor of two, and one more where the best of
all is the last that was tried. The best, and the one below it, then run for an eighth.

A long run wants a lower rate than a short one does, and beside the best rate lies a cliff. So the logarithm of the two
losses' ratio is carried on to the whole run, linear in the logarithm of the steps, and where the lower rate will be
ahead it is taken. The other way round nothing is carried on: where a short run does well with a high rate, a long one
may diverge. Halving a rate changes little near its best, and noise decides; so where an arm does about as well at the
rate of uniform at the same budget, it takes that, and the two differ by nothing but their sizes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from attrs import frozen

from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.errors import DataError
from layerlens_core.values.comparison import Arm, Job, Result, Schedule

#: Tried first, a factor of four apart.
COARSE = (1.5625e-4, 6.25e-4, 2.5e-3, 1e-2)
#: Shares of the run's steps.
SHORT, LONG = 1 / 16, 1 / 8
#: Steps of a short run at least, and held-out samples that it is judged on.
FEWEST_STEPS, JUDGED = 12, 256
#: Losses that differ by this share are about the same.
NEAR = 0.01
#: A loss that falls by this share from the short to the long runs is still far from where it will end.
STEEP = 0.25

#: Runs jobs, and gives their results.
Run = Callable[[Sequence[Job]], Iterable[Result]]


@frozen(kw_only=True)
class Point:
    """One short run.

    rate: its largest learning rate.
    steps: of it.
    loss: held-out, in nats a label; None where it diverged.
    """

    rate: float
    steps: int
    loss: float | None


@frozen(kw_only=True)
class Curve:
    """How an arm's rate was found.

    arm: its key.
    points: short runs, by steps and rate.
    rate: that was chosen.
    steps: of the whole run that it was chosen for.
    edge: whether the best rate is the lowest or the highest that was tried.
    steep: whether the loss still fell so fast in the short runs that they say little about the whole one.
    """

    arm: str
    points: tuple[Point, ...]
    rate: float
    steps: int
    edge: bool = False
    steep: bool = False

    @property
    def least(self) -> float:
        """The least loss of all short runs."""
        return min(point.loss for point in self.points if point.loss is not None)

    @property
    def share(self) -> float:
        """Steps of all short runs, as a share of the whole run's."""
        return sum(point.steps for point in self.points) / self.steps


def find_rates(
    arms: Sequence[Arm], schedule: Schedule, setting: str, run: Run, labels: tuple[int, ...], *, seed: int = 0
) -> dict[str, Curve]:
    """By arm key, the rate for a whole run and how it was found. Arms are tried beside each other.

    arms: to find rates for.
    schedule: of the whole run.
    setting: digest of what all jobs share.
    run: trains.
    labels: of each held-out sample, by which losses are weighted.
    seed: of all short runs.

    Raises `DataError` where every rate diverges.
    """
    short = schedule.shortened(SHORT, fewest=FEWEST_STEPS, judged=JUDGED)
    long = schedule.shortened(LONG, fewest=2 * FEWEST_STEPS, judged=JUDGED)
    found: dict[str, dict[tuple[int, float], float]] = {arm.key: {} for arm in arms}

    def tried(schedule: Schedule, rates_of: Callable[[Mapping[float, float]], Iterable[float]]) -> None:
        jobs = {}
        for arm in arms:
            known = _at(found[arm.key], short.steps)
            for rate in rates_of(known):
                if (schedule.steps, rate) not in found[arm.key]:
                    jobs[arm.key, rate] = Job(arm=arm, rate=rate, seed=seed, schedule=schedule, setting=setting)
        losses = {result.job.id: result.loss(labels) for result in run(list(jobs.values()))}
        for (key, rate), job in jobs.items():
            found[key][schedule.steps, rate] = losses[job.id]

    tried(short, lambda known: COARSE)
    tried(short, lambda known: (best(known) / 2, best(known) * 2))
    tried(short, lambda known: _beyond(known))
    if long.steps > short.steps:
        tried(long, lambda known: (best(known), best(known) / 2))
    for key, losses in found.items():
        if not any(map(math.isfinite, losses.values())):
            raise DataError(f"{key} diverges at every rate from {min(COARSE):g} on; are the data's labels finite?")
    curves = {arm.key: _curve(arm.key, found[arm.key], short.steps, long.steps, schedule.steps) for arm in arms}
    return {arm.key: _as_uniform(curves[arm.key], curves.get(f"{UNIFORM} {arm.budget}")) for arm in arms}


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
        told.append(f"the whole run is so short that finding the rate of {_several(flat)} took more steps than it has")
    return told


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def best(losses: Mapping[float, float]) -> float:
    """The rate of the least loss; of several the lowest.

    losses: by rate.
    """
    return min(sorted(losses), key=lambda rate: losses[rate])


def carried_on(
    rate: float, short: Mapping[float, float], long: Mapping[float, float], steps: tuple[int, int, int]
) -> float:
    """A rate, or half of it where a whole run is expected to do better with that.

    rate: the best of the short runs.
    short: losses by rate.
    long: losses by rate, of longer runs.
    steps: of the short, the long and the whole run.
    """
    lower = rate / 2
    if not all(math.isfinite(losses.get(at, math.inf)) for losses in (short, long) for at in (rate, lower)):
        return lower if math.isfinite(long.get(lower, math.inf)) and not math.isfinite(long.get(rate, 0.0)) else rate
    ahead, later = (math.log(losses[lower] / losses[rate]) for losses in (short, long))
    slope = (later - ahead) / math.log(steps[1] / steps[0])
    return lower if later <= 0 or later + min(slope, 0.0) * math.log(steps[2] / steps[1]) < 0 else rate


def _curve(key: str, found: Mapping[tuple[int, float], float], short: int, long: int, whole: int) -> Curve:
    at_short, at_long = _at(found, short), _at(found, long)
    rate = best(at_short)
    points = tuple(
        Point(rate=at, steps=steps, loss=loss if math.isfinite(loss) else None)
        for (steps, at), loss in sorted(found.items())
    )
    chosen = carried_on(rate, at_short, at_long, (short, long, whole)) if long > short else rate
    steep = bool(at_long) and min(at_long.values()) < (1 - STEEP) * min(at_short.values())
    flat = len(set(at_short.values())) == 1  # nothing trains, so that all rates are alike
    edge = rate in (min(at_short), max(at_short)) and not flat
    return Curve(arm=key, points=points, rate=chosen, steps=whole, edge=edge, steep=steep)


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


def _at(found: Mapping[tuple[int, float], float], steps: int) -> dict[float, float]:
    return {rate: loss for (taken, rate), loss in found.items() if taken == steps}


def _beyond(known: Mapping[float, float]) -> tuple[float, ...]:
    """One rate more, where the best is the last on its side."""
    rate = best(known)
    return (rate * 2,) if rate == max(known) else (rate / 2,) if rate == min(known) else ()
