"""What the run's strategy is predicted to gain at other budgets, found by allocating anew; no model, and no margins."""

import math
import time
from collections.abc import Sequence

import attrs
from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.margins import scaled
from layerlens_core.allocation.predicted import predicted_gain
from layerlens_core.allocation.problem import UNIFORM, Problem
from layerlens_core.errors import LayerLensError
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.decisions import Decision
from layerlens_core.values.request import Request

#: What the budget is multiplied by: from an eighth to eight times, twice as many points as doublings.
FACTORS = tuple(2 ** (step / 2) for step in range(-6, 7))
#: The run's strategy is asked for this long; where two bounds meet, or it is a plugin's, one plan may take seconds.
SECONDS = 4.0


@frozen(kw_only=True)
class Point:
    """One plan that was tried.

    strategy: that made it.
    factor: by which the budget was multiplied.
    allowed: by the budget, of the resource that was changed.
    spent: of it.
    gain: that is predicted, on the scale of the utilities.
    """

    strategy: str
    factor: float
    allowed: float
    spent: float
    gain: float


@frozen(kw_only=True)
class Frontier:
    """Predicted gain against budget.

    resource: that was changed; all other bounds stay.
    points: of the run's strategy and of uniform, each in ascending budget.
    own: the run's plan itself.
    untried: budgets for which there was no time.
    """

    resource: str
    points: tuple[Point, ...]
    own: Point
    untried: int = 0

    @property
    def uniform(self) -> Point | None:
        """Uniform at the run's own budget, where it could be tried."""
        return next((point for point in self.points if point.strategy == UNIFORM and point.factor == 1), None)


def frontier(problem: Problem, decisions: Sequence[Decision], registry: Registry | None = None) -> Frontier | None:
    """Decide anew at a dozen budgets, by the run's strategy and by uniform; None where nothing is bounded.

    Budgets at which no plan is possible have no points. Those next to the run's own are tried first, for `SECONDS`.

    problem: the run's own.
    decisions: the run's own.
    registry: of providers; by default those that are installed, and what `register` added.
    """
    if not problem.limits.bounds:
        return None
    registry = default() if registry is None else registry
    resource = next(iter(problem.limits.bounds))
    name = UNIFORM if problem.abstained else problem.request.strategy
    tried = {name: problem}
    if name != UNIFORM:
        select = registry.load("strategy", UNIFORM)
        tried[UNIFORM] = attrs.evolve(problem, select=select, request=_of_uniform(problem))
    points, untried = [], 0
    end = time.monotonic() + SECONDS
    for strategy, each in tried.items():
        for factor in sorted(FACTORS, key=lambda factor: abs(math.log(factor))):
            if strategy != UNIFORM and time.monotonic() > end:
                untried += 1
            elif (point := _point(each, resource, strategy, factor)) is not None:
                points.append(point)
    points.sort(key=lambda point: (point.strategy == UNIFORM, point.factor))
    own = Point(
        strategy=name,
        factor=1.0,
        allowed=problem.limits.bounds[resource],
        spent=_spent(problem, decisions, resource),
        gain=predicted_gain(problem.candidates, decisions),
    )
    return Frontier(resource=resource, points=tuple(points), own=own, untried=untried)


def _of_uniform(problem: Problem) -> Request:
    return attrs.evolve(problem.request, strategy=UNIFORM, options={}, abstain=False)


def _point(problem: Problem, resource: str, strategy: str, factor: float) -> Point | None:
    limits = problem.limits if factor == 1 else scaled(problem.limits, resource, factor)
    cheapest = problem.candidates.cheapest
    if cheapest is None or (limits.params is not None and cheapest.parameters > limits.params):
        return None  # `layerlens_core.allocate` refuses such a budget
    if factor != 1:  # a rank that the budget was named by is that of the run's own budget alone
        amount = limits.bounds[resource]
        texts = tuple(
            f"{resource}={int(amount)}" if text.startswith(f"{resource}=") and resource == "params" else text
            for text in problem.request.budget
        )
        problem = attrs.evolve(problem, request=attrs.evolve(problem.request, budget=texts))
    try:
        with tracing.silenced():
            decisions = problem.solve(limits=limits).decisions
    except LayerLensError:
        return None  # at so little, no plan is possible
    return Point(
        strategy=strategy,
        factor=factor,
        allowed=limits.bounds[resource],
        spent=_spent(problem, decisions, resource),
        gain=predicted_gain(problem.candidates, decisions),
    )


def _spent(problem: Problem, decisions: Sequence[Decision], resource: str) -> float:
    known = [each for each in decisions if each.unit in problem.candidates.by_name]
    return float(getattr(problem.candidates.total(known), resource))
