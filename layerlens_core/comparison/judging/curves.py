"""Loss against parameters: how many times the parameters uniform would need, and which budget is enough."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from attrs import frozen
from scipy.interpolate import PchipInterpolator

from layerlens_core.comparison.judging.statistics import mean_loss, paired
from layerlens_core.errors import ComparisonError

#: Whether a number is that number, or it is only known that it is less or more.
Bound = Literal["exactly", "less", "more"]


@frozen(kw_only=True)
class Times:
    """A multiple of an arm's parameters.

    times: the multiple.
    bound: ``more`` where no uniform arm that was trained comes as far, so that it is more than this; ``less`` where
        even the smallest comes farther.
    """

    times: float
    bound: Bound = "exactly"


@frozen(kw_only=True)
class Factor:
    """How many times an arm's parameters uniform would need to reach the arm's loss.

    estimate: at the arm's loss.
    low, high: at the ends of the loss's interval.
    """

    estimate: Times
    low: Times
    high: Times


class Curve:
    """Uniform's own loss against the logarithm of its parameters, interpolated between what was measured.

    Piecewise cubic Hermite (Fritsch and Carlson, SIAM Journal on Numerical Analysis 17, 1980): it goes through every
    point, and rises or falls between two of them only as they do. Nothing is said outside of the points.
    """

    def __init__(self, parameters: Sequence[int], losses: Sequence[float]) -> None:
        """Through these points.

        parameters: of every uniform arm; two arms of equally many count as one of their mean loss.
        losses: in nats a label, finite.

        Raises `ComparisonError` where fewer than two numbers of parameters remain.
        """
        by_size: dict[int, list[float]] = {}
        for count, loss in zip(parameters, losses, strict=True):
            by_size.setdefault(count, []).append(loss)
        sizes = sorted(by_size)
        if len(sizes) < 2 or sizes[0] < 1 or not np.isfinite(losses).all():
            raise ComparisonError("a curve needs uniform at two budgets at least, each with a finite loss")
        self.parameters = tuple(sizes)
        self.losses = tuple(sum(by_size[size]) / len(by_size[size]) for size in sizes)
        self._at = PchipInterpolator(np.log(sizes), self.losses)

    def loss(self, parameters: float) -> float:
        """Uniform's loss with so many parameters; outside of what was measured that of the nearest end."""
        inside = min(max(parameters, self.parameters[0]), self.parameters[-1])
        return float(self._at(math.log(inside)))

    def times(self, loss: float, parameters: int) -> Times:
        """What uniform would need for a loss, as a multiple of an arm's parameters.

        The curve is walked from the arm's own parameters: up where the loss is below the curve there, down where it is
        above it, to the first place that has the loss. On a falling curve that is the only one. Where more parameters
        overfit, an arm that is better than uniform of its own size never gets a factor below 1 for that.

        loss: in nats a label.
        parameters: of the arm.
        """
        start = min(max(parameters, self.parameters[0]), self.parameters[-1])
        here = self.loss(start)
        if math.isclose(loss, here, rel_tol=1e-12):
            return Times(times=start / parameters)
        rising = loss < here
        roots = np.asarray(self._at.solve(loss, extrapolate=False), np.float64)
        sizes = np.exp(roots[np.isfinite(roots)])
        ahead = sizes[sizes > start] if rising else sizes[sizes < start]
        if len(ahead):
            return Times(times=float(ahead.min() if rising else ahead.max()) / parameters)
        if rising:
            return Times(times=self.parameters[-1] / parameters, bound="more")
        return Times(times=self.parameters[0] / parameters, bound="less")

    def factor(self, loss: float, low: float, high: float, parameters: int) -> Factor:
        """The multiple at a loss, and at the ends of its interval; the lower loss needs the more parameters.

        The interval has to be that of the paired difference to uniform, laid at uniform's loss: it holds 1 when that
        holds 0. The curve's slope is taken as measured; its uncertainty is of second order in the difference.

        loss, low, high: in nats a label.
        parameters: of the arm.
        """
        return Factor(
            estimate=self.times(loss, parameters), low=self.times(high, parameters), high=self.times(low, parameters)
        )


def ratio_of(logarithm: float) -> float:
    """A ratio from its logarithm; the end of a very wide interval stays a number that JSON has."""
    return math.exp(min(logarithm, 700.0))


@frozen(kw_only=True)
class Excess:
    """How far a budget is from the best.

    budget: as typed.
    parameters: that train.
    ratio: its loss over the best budget's; 1 for the best.
    most: the largest ratio to any other budget that the intervals allow; 1 where there is no other.
    """

    budget: str
    parameters: int
    ratio: float
    most: float


@frozen(kw_only=True)
class Sufficient:
    """The rank question: which budget is enough.

    arm: whose budgets they are.
    budgets: all of them, the smallest first.
    best: the budget of the least loss.
    enough: the smallest whose loss, as measured, is within the tolerance of the best.
    surely: the smallest of which that holds at the interval's end too, against every other budget; none where that
        cannot be shown of any.
    tolerance: 0.01 is 1 %.
    """

    arm: str
    budgets: tuple[Excess, ...]
    best: str
    enough: str
    surely: str | None
    tolerance: float


def smallest_sufficient(
    arm: str,
    budgets: Sequence[tuple[str, int, Any]],
    weights: Any,
    *,
    tolerance: float = 0.01,
    confidence: float = 0.95,
) -> Sufficient:
    """Which of an arm's budgets is enough: the smallest whose loss is at most 1 + tolerance times the least.

    That a budget is surely enough is claimed when its ratio to *every* other budget is within the tolerance at the
    upper end of the paired interval. Each has to be shown, so that no correction is needed, and that the best was
    chosen among noisy ones does no harm (Hsu, Annals of Statistics 9, 1981).

    arm: its name.
    budgets: name, parameters and losses [seeds, examples] of each, of the same seeds and examples.
    weights: [examples], labels of every example.
    tolerance: 0.01 is 1 %.
    confidence: of the intervals.

    Raises `ComparisonError` where there is no budget, or as `paired` does.
    """
    if not budgets:
        raise ComparisonError(f"{arm} has no budget of which to say what is enough")
    ordered = sorted(budgets, key=lambda each: each[1])
    losses = [mean_loss(matrix, weights) for _, _, matrix in ordered]
    best = losses.index(min(losses))
    found = []
    for index, (name, parameters, matrix) in enumerate(ordered):
        others = [other for place, (_, _, other) in enumerate(ordered) if place != index]
        ends = [paired(matrix, other, weights, confidence=confidence, relative=True).high for other in others]
        found.append(
            Excess(
                budget=name,
                parameters=parameters,
                ratio=losses[index] / losses[best],
                most=ratio_of(max(ends, default=0.0)),
            )
        )
    seeds = len(np.atleast_2d(ordered[0][2]))
    sure = [each.budget for each in found if each.most <= 1 + tolerance] if seeds > 1 else []
    return Sufficient(
        arm=arm,
        budgets=tuple(found),
        best=ordered[best][0],
        enough=next(each.budget for each in found if each.ratio <= 1 + tolerance),
        surely=sure[0] if sure else None,
        tolerance=tolerance,
    )
