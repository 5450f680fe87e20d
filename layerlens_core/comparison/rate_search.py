"""What short runs of one arm say of its learning rate: which rates to try, and which one a whole run should have."""

import math
from collections.abc import Mapping

from attrs import define, field, frozen

from layerlens_core.values.comparison import Arm, Schedule

#: Of a run's samples, all that an arm's short runs may take before there is one more.
MOST = 0.7
#: A loss that falls by this share from the short to the long runs is still far from where it will end.
STEEP = 0.25


@frozen(kw_only=True)
class Point:
    """One short run.

    rate: its largest learning rate.
    steps: of it.
    batch: samples a step.
    loss: held-out, in nats a label; None where it diverged.
    """

    rate: float
    steps: int
    batch: int
    loss: float | None


@frozen(kw_only=True)
class Curve:
    """How an arm's rate was found.

    arm: its key.
    points: short runs, by steps and rate.
    rate: that was chosen.
    steps: of the whole run that it was chosen for.
    batch: of the whole run.
    edge: whether the best rate is the lowest or the highest that was tried.
    steep: whether the loss still fell so fast in the short runs that they say little about the whole one.
    """

    arm: str
    points: tuple[Point, ...]
    rate: float
    steps: int
    batch: int
    edge: bool = False
    steep: bool = False

    @property
    def least(self) -> float:
        """The least loss of all short runs."""
        return min(point.loss for point in self.points if point.loss is not None)

    @property
    def share(self) -> float:
        """Samples of all short runs, as a share of the whole run's."""
        return sum(point.steps * point.batch for point in self.points) / (self.steps * self.batch)


@define
class Search:
    """What short runs of one arm gave.

    arm: whose rate is looked for.
    short: schedule of the short runs.
    long: of the longer ones.
    whole: of the run that the rate is for.
    losses: by steps and rate.
    """

    arm: Arm
    short: Schedule
    long: Schedule
    whole: Schedule
    losses: dict[tuple[int, float], float] = field(factory=dict)

    @property
    def at_short(self) -> dict[float, float]:
        """Losses of the short runs by rate."""
        return self._at(self.short)

    @property
    def at_long(self) -> dict[float, float]:
        """Losses of the longer runs by rate."""
        return self._at(self.long) if self.long.steps > self.short.steps else {}

    @property
    def best(self) -> float:
        """The best rate of the short runs."""
        return best(self.at_short)

    @property
    def samples(self) -> tuple[int, int, int]:
        """Samples of a short, a longer and the whole run."""
        short, long, whole = (each.steps * each.batch for each in (self.short, self.long, self.whole))
        return short, long, whole

    def beyond(self) -> tuple[float, ...]:
        """One rate more, where the best is the last on its side."""
        rate, known = self.best, self.at_short
        return (rate * 2,) if rate == max(known) else (rate / 2,) if rate == min(known) else ()

    def lower(self) -> tuple[float, ...]:
        """A third rate for the longer runs, where the lower of two is ahead already, and there are samples left."""
        half, losses = self.best / 2, self.at_long
        spent = len(self.at_short) * self.samples[0] + (len(losses) + 1) * self.samples[1]
        ahead = math.isfinite(losses[half]) and losses[half] <= losses[self.best]
        return (half / 2,) if ahead and half / 2 in self.at_short and spent <= MOST * self.samples[2] else ()

    def chosen(self) -> float:
        """The rate for the whole run."""
        rate, short, long = self.best, self.at_short, self.at_long
        while long and (lower := carried_on(rate, short, long, self.samples)) != rate:
            rate = lower
        return rate

    def curve(self) -> Curve:
        """How the rate was found."""
        short, long = self.at_short, self.at_long
        points = tuple(
            Point(rate=rate, steps=steps, batch=self.short.batch, loss=loss if math.isfinite(loss) else None)
            for (steps, rate), loss in sorted(self.losses.items())
        )
        whole_batches = self.short.batch == self.whole.batch
        steep = whole_batches and bool(long) and min(long.values()) < (1 - STEEP) * min(short.values())
        edge = self.best in (min(short), max(short)) and len(set(short.values())) > 1  # of none where nothing trains
        return Curve(
            arm=self.arm.key,
            points=points,
            rate=self.chosen(),
            steps=self.whole.steps,
            batch=self.whole.batch,
            edge=edge,
            steep=steep,
        )

    def _at(self, schedule: Schedule) -> dict[float, float]:
        return {rate: loss for (steps, rate), loss in self.losses.items() if steps == schedule.steps}


def best(losses: Mapping[float, float]) -> float:
    """The rate of the least loss; of several the lowest.

    losses: by rate.
    """
    return min(sorted(losses), key=lambda rate: losses[rate])


def carried_on(
    rate: float, short: Mapping[float, float], long: Mapping[float, float], samples: tuple[int, int, int]
) -> float:
    """A rate, or half of it where a whole run is expected to do better with that.

    rate: the best of the short runs.
    short: losses by rate.
    long: losses by rate, of longer runs.
    samples: of the short, the long and the whole run.
    """
    lower = rate / 2
    if not all(math.isfinite(losses.get(at, math.inf)) for losses in (short, long) for at in (rate, lower)):
        return lower if math.isfinite(long.get(lower, math.inf)) and not math.isfinite(long.get(rate, 0.0)) else rate
    ahead, later = (math.log(losses[lower] / losses[rate]) for losses in (short, long))
    slope = (later - ahead) / math.log(samples[1] / samples[0])
    return lower if later <= 0 or later + min(slope, 0.0) * math.log(samples[2] / samples[1]) < 0 else rate
