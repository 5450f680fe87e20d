"""One row of a table of candidates for every unit: the most gain within the limits, whatever the lowest trained layer.

The deeper training reaches, the more the frozen model itself costs. So where FLOPs or memory are bounded, every lowest
trained layer makes a knapsack of its own, with what is left after the model's own cost at that depth. They are solved
from the most promising one on. The prices that a solution finds bound the gain of all the others at once (the
Lagrangian dual), and a lowest layer whose bound is below the best plan's gain is not tried.
"""

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from layerlens_builtin.strategies.several_bounds import relaxed_prices, solve_several
from layerlens_core.plugin import CandidateSet, Limits, Table
from layerlens_native import knapsack

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Mask = NDArray[numpy.bool_]
    Rows = NDArray[numpy.int64]

#: Candidates that may be looked at over all lowest trained layers; those that are left then only widen the certificate.
MOST_WORK = 16_000_000
#: Bounds are compared with gains up to rounding.
ROUNDING = 1e-9


@frozen(kw_only=True, eq=False)
class Choice:
    """One candidate for each unit, with the certificate.

    table: of all candidates.
    rows: of the chosen ones, in the order of the units; int64 [units].
    value: sum of their gains.
    bound: no choice within the limits gains more.
    prices: by bounded resource, the gain for each 1 of it at which the bound is reached.
    """

    table: Table
    rows: "Rows"
    value: float
    bound: float
    prices: dict[str, float]

    @property
    def candidates(self) -> tuple[Any, ...]:
        """The chosen candidates as objects."""
        return tuple(self.table.candidate(row) for row in self.rows.tolist())


def choose(candidates: CandidateSet, limits: Limits, *, exact: bool, allowed: "Mask | None" = None) -> Choice | None:
    """The best choice; None where even the frozen model exceeds the limits, or a unit has nothing to choose from.

    candidates: of all units.
    limits: on the whole plan's cost.
    exact: search until the choice is an optimum.
    allowed: the rows of ``candidates.table`` to choose from; all by default.
    """
    import numpy

    table = candidates.table
    rows = numpy.ones(len(table.gains), dtype=bool) if allowed is None else allowed
    if _depth_matters(candidates, limits):
        best = _best_by_depth(candidates, rows, limits, exact)
    else:
        best = _solve(table, rows, limits, exact)
    if best is not None:
        return best
    frozen = numpy.flatnonzero(rows & table.are("none"))
    if candidates.base(None).exceeded(limits) or len(frozen) < len(candidates.units):
        return None
    return Choice(table=table, rows=frozen, value=0.0, bound=0.0, prices={})


def _depth_matters(candidates: CandidateSet, limits: Limits) -> bool:
    return bool(candidates.depths and {"flops", "memory"} & limits.bounds.keys())


def _best_by_depth(candidates: CandidateSet, allowed: "Mask", limits: Limits, exact: bool) -> Choice | None:
    """The best choice over all lowest trained layers, with a bound that holds over all of them."""
    import numpy

    table = candidates.table
    depths = numpy.array([unit.depth for unit in candidates.units], dtype=numpy.int64)
    left = {
        name: numpy.array([bound - getattr(candidates.base(depth), name) for depth in depths.tolist()])
        for name, bound in limits.bounds.items()
    }
    frozen = allowed & table.are("none")
    dual = _Dual(table, allowed, frozen, depths, left)
    open_ = dual.feasible()  # lowest trained units that may still hold the best choice
    tightened = set[int]()
    best: tuple[Choice, int] | None = None
    bound, work = -math.inf, 0
    while open_.any():
        lowest = int(numpy.where(open_, dual.bounds, -math.inf).argmax())
        if work > MOST_WORK:
            bound = max(bound, float(dual.bounds[lowest]))
            break
        rows = allowed & ((depths[table.unit] >= depths[lowest]) | frozen)
        within = Limits(**{name: amounts[lowest].item() for name, amounts in left.items()})
        work += int(rows.sum())
        if len(left) > 1 and lowest not in tightened and open_.sum() > 1:
            tightened.add(lowest)
            if prices := relaxed_prices(table.take(rows), within):
                dual.tighten(prices)
        else:
            open_[lowest] = False
            found = _solve(table, rows, within, exact)
            if found is not None:
                bound = max(bound, found.bound)
                if best is None or (found.value, -lowest) > (best[0].value, -best[1]):
                    best = found, lowest
                if len(left) == 1:
                    dual.tighten(found.prices)
        if best is not None:
            open_ &= dual.bounds >= best[0].value - ROUNDING * abs(best[0].value)
    if best is None:
        return None
    found = best[0]
    return Choice(table=table, rows=found.rows, value=found.value, bound=max(bound, found.value), prices=found.prices)


class _Dual:
    """For every lowest trained unit, what no choice can gain more than.

    For any prices λ ≥ 0, every choice within what is ``left`` gains at most Σ max(gain − λ·cost) + λ·left.
    """

    def __init__(
        self, table: Table, allowed: "Mask", frozen: "Mask", depths: "Rows", left: "dict[str, NDArray[Any]]"
    ) -> None:
        import numpy

        self._table, self._allowed, self._frozen, self._left = table, allowed, frozen, left
        self._order = numpy.argsort(depths, kind="stable")
        #: By lowest trained unit, how many units lie below it.
        self._below = numpy.searchsorted(depths[self._order], depths)
        self.bounds: Any = numpy.full(len(depths), math.inf)

    def feasible(self) -> "Mask":
        """The lowest trained units with which the frozen model fits, and all units have something to choose."""
        import numpy

        fits = numpy.ones(len(self.bounds), dtype=bool)
        for amounts in self._left.values():
            fits &= amounts >= 0
        below, above = self._largest(self._frozen, {}), self._largest(self._allowed, {})
        fits &= numpy.isfinite(self._total(below, above))
        return fits

    def tighten(self, prices: dict[str, float]) -> None:
        """Lower the bounds to those of these prices, where they are lower."""
        import numpy

        below, above = self._largest(self._frozen, prices), self._largest(self._allowed, prices)
        total = self._total(below, above)
        for name, price in prices.items():
            total = total + price * self._left[name]
        self.bounds = numpy.minimum(self.bounds, numpy.where(numpy.isnan(total), math.inf, total))

    def _largest(self, rows: "Mask", prices: dict[str, float]) -> "NDArray[Any]":
        """By unit, the largest net gain of these rows; −∞ where it has none."""
        import numpy

        net = self._table.gains
        for name, price in prices.items():
            net = net - price * self._table.amounts[name]
        return numpy.maximum.reduceat(numpy.where(rows, net, -math.inf), self._table.offsets[:-1])

    def _total(self, below: "NDArray[Any]", above: "NDArray[Any]") -> "NDArray[Any]":
        """By lowest trained unit, the sum of one number for each unit below it, and of another for the rest."""
        import numpy

        below, above = below[self._order], above[self._order]
        before = numpy.concatenate([[0.0], below.cumsum()])
        after = numpy.concatenate([above[::-1].cumsum()[::-1], [0.0]])
        total: NDArray[Any] = before[self._below] + after[self._below]
        return total


def _solve(table: Table, rows: "Mask", limits: Limits, exact: bool) -> Choice | None:
    """The best choice of these rows; None where there is none."""
    import numpy

    part = table if rows.all() else table.take(rows)
    if (part.offsets[1:] == part.offsets[:-1]).any():
        return None
    bounded = list(limits.bounds)
    if len(bounded) > 1:
        several = solve_several(part, limits, exact=exact)
        if several is None:
            return None
        chosen, value, bound = several
        prices: dict[str, float] = {}
    else:
        costs = part.amounts[bounded[0]] if bounded else numpy.zeros(len(part.gains))
        budget = limits.bounds[bounded[0]] if bounded else math.inf
        try:
            solution = knapsack.solve(
                _doubles(costs), _doubles(part.gains), array("q", part.offsets.tobytes()), budget, exact=exact
            )
        except knapsack.Infeasible:
            return None
        chosen, value, bound = part.offsets[:-1] + _integers(solution.choice), solution.value, solution.bound
        prices = {bounded[0]: solution.price} if bounded else {}
    return Choice(table=table, rows=numpy.flatnonzero(rows)[chosen], value=value, bound=bound, prices=prices)


def _doubles(column: "NDArray[Any]") -> "array[float]":
    import numpy

    return array("d", column.astype(numpy.float64).tobytes())


def _integers(values: Sequence[int]) -> "Rows":
    import numpy

    return numpy.array(values, dtype=numpy.int64)
