"""The best plan that a budget can buy: the multiple-choice knapsack over all candidates.

Every unit is a group of the knapsack, every candidate an item, and the sum of predicted gains is the objective. The
deeper training reaches, the more the frozen model itself costs. So where FLOPs or memory are bounded every lowest
trained layer is tried, with what is left after the model's own cost at that depth. A single bound is solved by hulls
and a price (`layerlens_native.knapsack`); several bounds by HiGHS, through scipy. The certificate says how far the plan
may be from the best one.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import attrs
from attrs import frozen

from layerlens_core.plugin import (
    BudgetError,
    Candidate,
    CandidateSet,
    Certificate,
    Context,
    Cost,
    Decision,
    Limits,
    PlanError,
    Selection,
    Unit,
    certificate_found,
    readable,
)
from layerlens_native import knapsack

#: Below this many candidates an optimum is searched for without being asked.
EXACT_BELOW = 2_000
#: scipy's status of a problem that has no solution.
INFEASIBLE = 2


@frozen(kw_only=True)
class Choice:
    """One candidate for each unit, with the certificate.

    candidates: in the order of the units.
    value: sum of their gains.
    bound: no choice within the limits gains more.
    prices: by bounded resource, the gain for each 1 of it at which the bound is reached.
    """

    candidates: tuple[Candidate, ...]
    value: float
    bound: float
    prices: dict[str, float]


def select(candidates: CandidateSet, limits: Limits, context: Context) -> Selection:
    """The candidates with the largest sum of predicted gains within the limits.

    Option: ``exact`` (``true`` or ``false``), whether to search until the plan is an optimum; by default that is done
    for small problems only.

    Raises `BudgetError` where no plan fits, with the least bound that would do.
    """
    count = sum(len(unit.candidates) for unit in candidates.units)
    exact = _flag(context.options.get("exact"), default=count < EXACT_BELOW)
    choice = best_choice(candidates, limits, exact=exact)
    if "exact" not in context.options:
        choice = _alike(choice, candidates, limits, exact=exact)
    certificate_found(value=choice.value, bound=choice.bound, exact=exact)
    return Selection(
        decisions=tuple(
            _decide(unit, chosen, choice, candidates.alike)
            for unit, chosen in zip(candidates.units, choice.candidates, strict=True)
        ),
        certificate=Certificate(value=choice.value, bound=choice.bound),
    )


def best_choice(candidates: CandidateSet, limits: Limits, *, exact: bool) -> Choice:
    """The best choice over every lowest trained layer, with the bound that holds over all of them."""
    matters = candidates.depths and {"flops", "memory"} & limits.bounds.keys()
    lowest_layers = [unit.depth for unit in candidates.units] if matters else [0]
    best: Choice | None = None
    bound = -math.inf
    for lowest in lowest_layers:
        left = _left(limits, candidates.base(lowest)) if matters else limits
        if left is None:
            continue
        found = _solve(candidates.units, lowest, left, exact)
        if found is not None:
            bound = max(bound, found.bound)
            if best is None or found.value > best.value:
                best = found
    if best is None:
        frozen = [c for unit in candidates.units for c in unit.candidates if c.method == "none"]
        if candidates.base(None).exceeded(limits) or len(frozen) < len(candidates.units):
            raise BudgetError(_too_small(candidates, limits))
        return Choice(candidates=tuple(frozen), value=0.0, bound=0.0, prices={})
    return Choice(candidates=best.candidates, value=best.value, bound=max(bound, best.value), prices=best.prices)


def _alike(choice: Choice, candidates: CandidateSet, limits: Limits, *, exact: bool) -> Choice:
    """The choice with one method for all units of equal utility, where the optimum would give them different ones.

    Each method in turn is tried for all of them, and the best is kept; the bound is still the unrestricted one. Where
    no single method fits, they keep different ones.
    """
    classes: dict[float, list[int]] = {}
    for index, unit in enumerate(candidates.units):
        classes.setdefault(unit.utility, []).append(index)
    restricted = candidates
    for members in classes.values():
        if len({choice.candidates[i].method for i in members}) == 1:
            continue
        tried = []
        for method in dict.fromkeys(choice.candidates[i].method for i in members):
            units = tuple(
                attrs.evolve(unit, candidates=tuple(c for c in unit.candidates if c.method == method))
                if index in members
                else unit
                for index, unit in enumerate(restricted.units)
            )
            option = attrs.evolve(restricted, units=units)
            try:
                tried.append((best_choice(option, limits, exact=exact), option))
            except BudgetError:
                continue
        if tried:
            found, restricted = max(tried, key=lambda pair: pair[0].value)
            choice = Choice(candidates=found.candidates, value=found.value, bound=choice.bound, prices=choice.prices)
    return choice


def _left(limits: Limits, base: Cost) -> Limits | None:
    """What the frozen model leaves of the limits for candidates; None where it exceeds them by itself."""
    left = {name: bound - getattr(base, name) for name, bound in limits.bounds.items()}
    return None if min(left.values()) < 0 else Limits(**left)


def _solve(units: Sequence[Unit], lowest: int, limits: Limits, exact: bool) -> Choice | None:
    """The best choice that trains nothing below ``lowest``."""
    items = [[c for c in unit.candidates if unit.depth >= lowest or c.method == "none"] for unit in units]
    if not all(items):
        return None
    bounded = list(limits.bounds)
    if len(bounded) > 1:
        return _with_highs(items, limits, exact)
    flat = [candidate for group in items for candidate in group]
    costs = [float(getattr(c.cost, bounded[0])) if bounded else 0.0 for c in flat]
    offsets = list(accumulate((len(group) for group in items), initial=0))
    budget = limits.bounds[bounded[0]] if bounded else math.inf
    try:
        solution = knapsack.solve(costs, [c.gain for c in flat], offsets, budget, exact=exact)
    except knapsack.Infeasible:
        return None
    return Choice(
        candidates=tuple(group[i] for group, i in zip(items, solution.choice, strict=True)),
        value=solution.value,
        bound=solution.bound,
        prices={bounded[0]: solution.price} if bounded else {},
    )


def _with_highs(items: Sequence[Sequence[Candidate]], limits: Limits, exact: bool) -> Choice | None:
    """The best choice under several bounds: HiGHS's branch and bound, and its own certificate."""
    import numpy
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [candidate for group in items for candidate in group]
    gains = numpy.array([candidate.gain for candidate in flat])
    group_of = numpy.repeat(numpy.arange(len(items)), [len(group) for group in items])
    one_each = csr_array((numpy.ones(len(flat)), (group_of, numpy.arange(len(flat)))))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for name, bound in limits.bounds.items():
        amounts = numpy.array([float(getattr(candidate.cost, name)) for candidate in flat])
        scale = max(bound, amounts.max(), 1e-300)
        constraints.append(LinearConstraint((amounts / scale)[None], -numpy.inf, bound / scale))
    largest = max(float(numpy.abs(gains).max()), 1e-300)
    result = milp(
        -gains / largest,
        constraints=constraints,
        integrality=numpy.ones(len(flat)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0 if exact else 1e-5, "time_limit": 60.0},
    )
    if result.x is None and result.status == INFEASIBLE:
        return None
    if result.x is None:
        # That time ran out without a plan is no proof that there is none; the bound must hold nevertheless.
        least = [min(group, key=lambda c: (c.cost.params, -c.gain)) for group in items]
        if not sum((c.cost for c in least), Cost()).within(limits):
            return None
        value = math.fsum(c.gain for c in least)
        most = math.fsum(max(c.gain for c in group) for group in items)
        return Choice(candidates=tuple(least), value=value, bound=most, prices={})
    chosen = []
    position = 0
    for group in items:
        weights = result.x[position : position + len(group)]
        chosen.append(group[int(weights.argmax())])
        position += len(group)
    # HiGHS keeps constraints within a tolerance; ours are hard.
    _shave(chosen, items, limits)
    value = math.fsum(candidate.gain for candidate in chosen)
    bound = max(-float(result.mip_dual_bound) * largest, value)
    return Choice(candidates=tuple(chosen), value=value, bound=bound, prices={})


def _shave(chosen: list[Candidate], items: Sequence[Sequence[Candidate]], limits: Limits) -> None:
    """Where rounding let a bound be exceeded, give up the least gain until none is; edits ``chosen``."""
    while over := sum((c.cost for c in chosen), Cost()).exceeded(limits):
        name = over[0]
        swaps = [
            (held.gain - other.gain, index, other)
            for index, (held, group) in enumerate(zip(chosen, items, strict=True))
            for other in group
            if getattr(other.cost, name) < getattr(held.cost, name)
        ]
        if not swaps:
            return
        _, index, other = min(swaps, key=lambda swap: swap[:2])
        chosen[index] = other


def _decide(unit: Unit, chosen: Candidate, choice: Choice, alike: str) -> Decision:
    worth = {id(c): _net(c, choice.prices) for c in unit.candidates}
    rivals = [c for c in unit.candidates if c.method != chosen.method]
    runner_up = max(rivals, key=lambda c: worth[id(c)], default=None)
    price = ", ".join(f"{value:.3g} a unit of {name}" for name, value in choice.prices.items() if value > 0)
    gap = choice.bound - choice.value
    reason = f"predicted gain {chosen.gain:.4g}"
    if price:
        reason += f", worth {worth[id(chosen)]:.3g} after its cost at the budget's price ({price})"
    if runner_up is not None:
        reason += f"; {runner_up} would be worth {worth[id(runner_up)]:.3g}" if price else f"; next: {runner_up}"
    reason += (
        "; the plan is an optimum" if gap <= 1e-12 * abs(choice.bound) else f"; at most {gap:.2g} from the best plan"
    )
    reason += alike
    return unit.decide(chosen.method, chosen.size, reason=reason, runner_up=str(runner_up) if runner_up else None)


def _net(candidate: Candidate, prices: dict[str, float]) -> float:
    return candidate.gain - math.fsum(price * getattr(candidate.cost, name) for name, price in prices.items())


def _too_small(candidates: CandidateSet, limits: Limits) -> str:
    base = candidates.base(None)
    return "; ".join(
        f"the frozen model alone takes {readable(name, getattr(base, name))} of {name}, "
        f"above the budget of {readable(name, limits.bounds[name])}"
        for name in base.exceeded(limits)
    )


def _flag(text: str | None, *, default: bool) -> bool:
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise PlanError(f"the option 'exact' is true or false, not {text!r}")
    return text.lower() == "true"
