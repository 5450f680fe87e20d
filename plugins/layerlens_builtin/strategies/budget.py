"""The best plan that a budget can buy: the multiple-choice knapsack over all candidates.

Every unit is a group of the knapsack, every candidate an item, and the sum of predicted gains is the objective
(`layerlens_builtin.strategies.choosing`). A single bound is solved by hulls and a price (`layerlens_native.knapsack`);
several bounds by HiGHS (`layerlens_builtin.strategies.several_bounds`). The certificate says how far the plan may be
from the best one.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from layerlens_builtin.strategies.choosing import Choice, choose
from layerlens_core.plugin import (
    BudgetError,
    CandidateSet,
    Certificate,
    Context,
    Decision,
    Limits,
    PlanError,
    Selection,
    certificate_found,
    readable,
)

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

#: Below this many candidates an optimum is searched for without being asked.
EXACT_BELOW = 2_000


def select(candidates: CandidateSet, limits: Limits, context: Context) -> Selection:
    """The candidates with the largest sum of predicted gains within the limits.

    Options: ``exact`` (``true`` or ``false``), whether to search until the plan is an optimum; by default that is done
    for small problems only. ``freeze``, whether layers may stay frozen that the limits would allow to be trained; by
    default none does, as freezing costs more than predicted gains know (`layerlens_builtin.strategies.freezing`), and
    the certificate is over the plans that train all layers.

    Raises `BudgetError` where no plan fits, with the least bound that would do.
    """
    exact = _flag(context.options, "exact", default=len(candidates.table.gains) < EXACT_BELOW)
    allowed = None if _flag(context.options, "freeze", default=False) else _trained(candidates)
    choice = choose(candidates, limits, exact=exact, allowed=allowed)
    if choice is None:
        allowed, choice = None, best_choice(candidates, limits, exact=exact)
    if "exact" not in context.options:
        choice = _alike(choice, candidates, limits, exact=exact, allowed=allowed)
    certificate_found(value=choice.value, bound=choice.bound, exact=exact)
    return Selection(
        decisions=_decisions(candidates, choice, context.only),
        certificate=Certificate(value=choice.value, bound=choice.bound),
    )


def best_choice(candidates: CandidateSet, limits: Limits, *, exact: bool) -> Choice:
    """The best choice over every lowest trained layer. Raises `BudgetError` where there is none."""
    choice = choose(candidates, limits, exact=exact)
    if choice is None:
        raise BudgetError(_too_small(candidates, limits))
    return choice


def _trained(candidates: CandidateSet) -> "NDArray[numpy.bool_]":
    """The rows that train something, and those of units that offer nothing else than to stay frozen."""
    import numpy

    table = candidates.table
    trains = ~table.are("none")
    idle = numpy.bincount(table.unit[trains], minlength=len(candidates.units)) == 0
    rows: NDArray[numpy.bool_] = trains | idle[table.unit]
    return rows


def _alike(
    choice: Choice, candidates: CandidateSet, limits: Limits, *, exact: bool, allowed: "NDArray[numpy.bool_] | None"
) -> Choice:
    """The choice with one method for all units of equal utility, where the optimum would give them different ones.

    Each method in turn is tried for all of them, and the best is kept; the bound is still the unrestricted one. Where
    no single method fits, they keep different ones.
    """
    import numpy

    table = candidates.table
    classes: dict[float, list[int]] = {}
    for index, unit in enumerate(candidates.units):
        classes.setdefault(unit.utility, []).append(index)
    allowed = numpy.ones(len(table.gains), dtype=bool) if allowed is None else allowed
    for members in classes.values():
        methods = list(dict.fromkeys(table.method[choice.rows[members]].tolist())) if len(members) > 1 else []
        if len(methods) < 2:
            continue
        among = numpy.zeros(len(candidates.units), dtype=bool)
        among[members] = True
        tried = []
        for method in methods:
            rows = allowed & ((table.method == method) | ~among[table.unit])
            option = choose(candidates, limits, exact=exact, allowed=rows)
            if option is not None:
                tried.append((option, rows))
        if tried:
            found, allowed = max(tried, key=lambda pair: pair[0].value)
            choice = attrs.evolve(found, bound=choice.bound, prices=choice.prices)
    return choice


def _decisions(candidates: CandidateSet, choice: Choice, only: str | None) -> tuple[Decision, ...]:
    import numpy

    table = candidates.table
    worth = table.gains
    for name, each in choice.prices.items():
        worth = worth - each * table.amounts[name]
    rivals = numpy.where(table.method != table.method[choice.rows][table.unit], worth, -math.inf)
    price = ", ".join(f"{value:.3g} a unit of {name}" for name, value in choice.prices.items() if value > 0)
    gap = choice.bound - choice.value
    certain = "the plan is an optimum" if gap <= 1e-12 * abs(choice.bound) else f"at most {gap:.2g} from the best plan"
    ending = f"; {certain}{candidates.alike}"
    begins, ends = table.offsets[:-1].tolist(), table.offsets[1:].tolist()
    decisions = []
    for unit, row, begin, end in zip(candidates.units, choice.rows.tolist(), begins, ends, strict=True):
        if only not in (None, unit.name):
            continue
        next_row = begin + int(rivals[begin:end].argmax())
        runner_up = _spell(table.candidate_name(next_row)) if rivals[next_row] > -math.inf else None
        method, size = table.candidate_name(row)
        reason = f"predicted gain {table.gains[row]:.4g}"
        if price:
            reason += f", worth {worth[row]:.3g} after its cost at the budget's price ({price})"
        if runner_up is not None:
            reason += f"; {runner_up} would be worth {worth[next_row]:.3g}" if price else f"; next: {runner_up}"
        decisions.append(unit.decide(method, size, reason=reason + ending, runner_up=runner_up))
    return tuple(decisions)


def _spell(name: tuple[str, int]) -> str:
    method, size = name
    return f"{method} of size {size}" if size else method


def _too_small(candidates: CandidateSet, limits: Limits) -> str:
    base = candidates.base(None)
    return "; ".join(
        f"the frozen model alone takes {readable(name, getattr(base, name))} of {name}, "
        f"above the budget of {readable(name, limits.bounds[name])}"
        for name in base.exceeded(limits)
    )


def _flag(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise PlanError(f"the option {name!r} is true or false, not {text!r}")
    return text.lower() == "true"
