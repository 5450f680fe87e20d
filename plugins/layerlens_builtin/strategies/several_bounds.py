"""The multiple-choice knapsack under several bounds: HiGHS's branch and bound through scipy, and its certificate."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from layerlens_core.plugin import Cost, Limits, Table

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Rows = NDArray[numpy.int64]

#: scipy's status of a problem that has no solution.
INFEASIBLE = 2
SECONDS = 60.0


def solve_several(table: Table, limits: Limits, *, exact: bool) -> "tuple[Rows, float, float] | None":
    """The row of each unit, the sum of their gains, and what no choice gains more than; None where there is no choice.

    table: of all candidates.
    limits: on the sum of their costs.
    exact: search until the choice is an optimum.
    """
    import numpy
    from scipy.optimize import Bounds, LinearConstraint, milp

    gains, largest, one_each, amounts = _scaled(table, limits)
    constraints = [LinearConstraint(one_each, 1, 1)]
    constraints += [LinearConstraint(row[None], -numpy.inf, bound) for row, bound, _ in amounts.values()]
    with silent():
        result = milp(
            -gains,
            constraints=constraints,
            integrality=numpy.ones(len(gains)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0 if exact else 1e-5, "time_limit": SECONDS},
        )
    if result.x is None and result.status == INFEASIBLE:
        return None
    begins = table.offsets[:-1]
    if result.x is None:
        # That time ran out without a plan is no proof that there is none; the bound must hold nevertheless.
        params = table.amounts["params"]
        least = numpy.array(
            [
                begin + numpy.lexsort((-table.gains[begin:end], params[begin:end]))[0]
                for begin, end in zip(begins, table.offsets[1:], strict=True)
            ]
        )
        if _total(table, least).exceeded(limits):
            return None
        most = math.fsum(numpy.maximum.reduceat(table.gains, begins).tolist())
        return least, math.fsum(table.gains[least].tolist()), most
    chosen = numpy.array(
        [begin + result.x[begin:end].argmax() for begin, end in zip(begins, table.offsets[1:], strict=True)]
    )
    # HiGHS keeps constraints within a tolerance; ours are hard.
    _shave(chosen, table, limits)
    value = math.fsum(table.gains[chosen].tolist())
    return chosen, value, max(-float(result.mip_dual_bound) * largest, value)


def relaxed_prices(table: Table, limits: Limits) -> dict[str, float]:
    """By bounded resource, its price where fractions of candidates may be taken; empty where there is none.

    table: of all candidates.
    limits: on the sum of their costs.
    """
    import numpy
    from scipy.optimize import linprog

    gains, largest, one_each, amounts = _scaled(table, limits)
    rows = numpy.array([row for row, _, _ in amounts.values()])
    bounds = numpy.array([bound for _, bound, _ in amounts.values()])
    with silent():
        result = linprog(
            -gains,
            A_ub=rows,
            b_ub=bounds,
            A_eq=one_each,
            b_eq=numpy.ones(len(table.offsets) - 1),
            bounds=(0, None),
            method="highs",
            options={"time_limit": SECONDS},
        )
    if result.x is None:
        return {}
    marginals = numpy.maximum(-result.ineqlin.marginals, 0.0) * largest
    return {
        name: float(marginal / scale)
        for (name, (_, _, scale)), marginal in zip(amounts.items(), marginals, strict=True)
    }


def _scaled(
    table: Table, limits: Limits
) -> "tuple[NDArray[Any], float, Any, dict[str, tuple[NDArray[Any], float, float]]]":
    """Gains of at most 1, what they were divided by, that each unit gets one; by resource, amounts, bound and scale."""
    import numpy
    from scipy.sparse import csr_array

    count = len(table.gains)
    one_each = csr_array((numpy.ones(count), (table.unit, numpy.arange(count))))
    amounts = {}
    for name, bound in limits.bounds.items():
        column = table.amounts[name].astype(numpy.float64)
        scale = max(bound, column.max(), 1e-300)
        amounts[name] = column / scale, bound / scale, scale
    largest = max(float(numpy.abs(table.gains).max()), 1e-300)
    return table.gains / largest, largest, one_each, amounts


def _shave(chosen: "Rows", table: Table, limits: Limits) -> None:
    """Where rounding let a bound be exceeded, give up the least gain until none is; edits ``chosen``."""
    import numpy

    while over := _total(table, chosen).exceeded(limits):
        amounts = table.amounts[over[0]]
        held = chosen[table.unit]
        cheaper = numpy.flatnonzero(amounts < amounts[held])
        if not len(cheaper):
            return
        row = cheaper[(table.gains[held[cheaper]] - table.gains[cheaper]).argmin()]
        chosen[table.unit[row]] = row


def _total(table: Table, rows: "Rows") -> Cost:
    """The sum of some rows' costs, added one by one."""
    return Cost(**{name: sum(amounts[rows].tolist()) for name, amounts in table.amounts.items()})


@contextmanager
def silent() -> Iterator[None]:
    """Around a call into HiGHS, which prints some lines whatever it is told: past Python, to the process's own output.

    While it lasts, nothing that another thread prints comes out either.
    """
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (AttributeError, OSError, ValueError):  # no standard output, or none of the process's own
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        _flush()
        os.dup2(nowhere, 1)
        yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


def _flush() -> None:
    """What C has buffered of its own output goes where that leads now."""
    ctypes.CDLL(None).fflush(None)
