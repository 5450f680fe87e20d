"""The multiple-choice knapsack: one item from every group, the most gain that a budget can buy.

Minimal theory. For any price λ ≥ 0 of cost, every choice with cost ≤ B gains at most Σ max(gain − λ·cost) + λ·B. The
smallest of these bounds is the optimum of the linear relaxation; it is found by taking the steps along the groups'
upper concave hulls by falling slope (Sinha & Zoltners 1979; Dyer 1984), and λ is the slope at which the budget runs
out. The same steps, but only whole ones, give a choice that is short of the bound by less than the gain of one step.
"""

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from layerlens_native._selector import select_kernel

_kernel, IMPLEMENTATION = select_kernel("knapsack")

#: States that the exact search may hold at once before it gives up and returns its best choice with the bound.
MOST_STATES = 200_000


class Solution(NamedTuple):
    """One item of each group, with a certificate.

    choice: the index of the item within each group.
    value: gain of the choice.
    cost: of the choice.
    bound: no choice within the budget gains more.
    price: gain for each 1 of cost at which the budget runs out; 0 where it does not.
    """

    choice: list[int]
    value: float
    cost: float
    bound: float
    price: float

    @property
    def gap(self) -> float:
        """How far the value may be from the optimum, as a share of the bound."""
        return (self.bound - self.value) / abs(self.bound) if self.bound else 0.0


class Infeasible(ValueError):
    """Even the cheapest item of every group exceeds the budget; ``least`` is what they cost."""

    def __init__(self, least: float) -> None:
        super().__init__(f"the cheapest choice costs {least:g}")
        self.least = least


def solve(
    costs: Sequence[float],
    gains: Sequence[float],
    offsets: Sequence[int],
    budget: float,
    *,
    exact: bool = False,
) -> Solution:
    """Choose one item from every group within the budget.

    Arrays of doubles and of 64-bit integers are used as they are, without a copy.

    costs: of all items, group after group; at least 0.
    gains: of all items, in the same order.
    offsets: where each group begins, and the number of items at the end.
    budget: may be infinite.
    exact: search until the choice is an optimum.

    Raises `Infeasible` where no choice fits, and ``ValueError`` for an empty group or a number that is not finite.
    """
    costs, gains, offsets = _doubles(costs), _doubles(gains), _integers(offsets)
    _check(costs, gains, offsets, budget)
    if math.isinf(budget):
        budget = math.fsum(costs) + 1.0
    choice, value, bound, price = _kernel.relax(costs, gains, offsets, budget)
    if choice is None:
        raise Infeasible(value)
    solution = _solution(choice, costs, gains, offsets, max(bound, value), price)
    return _search(solution, costs, gains, offsets, budget) if exact and solution.value < bound else solution


def _check(costs: "array[float]", gains: "array[float]", offsets: "array[int]", budget: float) -> None:
    if math.isnan(budget):
        raise ValueError("the budget must be a number")
    if len(costs) != len(gains) or not offsets or offsets[0] != 0 or offsets[-1] != len(costs):
        raise ValueError("costs, gains and offsets do not fit together")
    if any(offsets[i] >= offsets[i + 1] for i in range(len(offsets) - 1)):
        raise ValueError("every group needs an item")
    # A sum is finite only if all its terms are; this is one pass in C for each array, also over a million items.
    if not math.isfinite(math.fsum(gains)) or not math.isfinite(math.fsum(costs)) or min(costs, default=0.0) < 0:
        raise ValueError("gains must be finite, and costs finite and at least 0")


def _solution(
    choice: list[int],
    costs: "array[float]",
    gains: "array[float]",
    offsets: "array[int]",
    bound: float,
    price: float,
) -> Solution:
    chosen = [offsets[group] + item for group, item in enumerate(choice)]
    value, cost = math.fsum(gains[i] for i in chosen), math.fsum(costs[i] for i in chosen)
    return Solution(choice, value, cost, max(bound, value), price)


class _State(NamedTuple):
    """A partial choice.

    cost: beyond the base choice.
    loss: below the bound.
    before: the choice that it extends.
    group: the group of its last item.
    item: its last item.
    """

    cost: float
    loss: float
    before: "_State | None"
    group: int
    item: int


def _search(
    start: Solution, costs: "array[float]", gains: "array[float]", offsets: "array[int]", budget: float
) -> Solution:
    """An optimum, by dynamic programming over an expanding core (Pisinger 1995).

    With the price λ, a choice falls short of the bound by the sum over its items of
    loss = max over the group of (gain − λ·cost) − (gain − λ·cost) ≥ 0, plus λ times the budget left over. The
    base choice loses nothing. Groups are opened in the order of their smallest other loss; every partial
    choice, completed with the base, may be the best so far; and once the next group's smallest loss reaches
    what the best falls short by, no group that is left can improve on it.
    """
    price, tolerance = start.price, 1e-12 * abs(start.bound)
    short = start.bound - start.value  # of the best choice so far
    base, core = _core(costs, gains, offsets, price)
    left = budget - math.fsum(costs[offsets[group] + item] for group, item in enumerate(base))
    rest = _largest_savings(core)
    states, best = [_State(0.0, 0.0, None, -1, -1)], None
    for depth, (_, group, others) in enumerate(core):
        if others[0][1] >= short - tolerance:
            break
        stay = [state for state in states if state.loss < short - tolerance]
        moved = [
            _State(state.cost + cost, state.loss + loss, state, group, item)
            for cost, loss, item in others
            for state in stay
            if state.loss + loss < short - tolerance and state.cost + cost - rest[depth + 1] <= left
        ]
        for state in moved:
            if state.cost <= left and state.loss + price * (left - state.cost) < short - tolerance:
                short, best = state.loss + price * (left - state.cost), state
        states = _undominated([*stay, *moved], price)
        if len(states) > MOST_STATES:
            return start
    choice = list(start.choice)
    if best is not None:
        choice = base
        while best is not None and best.group >= 0:
            choice[best.group] = best.item
            best = best.before
    found = _solution(choice, costs, gains, offsets, 0.0, price)
    best_found = found if found.value >= start.value and found.cost <= budget else start
    return best_found._replace(bound=best_found.value)


def _core(
    costs: "array[float]", gains: "array[float]", offsets: "array[int]", price: float
) -> tuple[list[int], list[tuple[float, int, list[tuple[float, float, int]]]]]:
    """The item of every group that loses nothing, and for every group the others by ascending loss.

    Each of the others is (cost beyond the base item, loss, item); groups come in order of their smallest loss.
    """
    base: list[int] = []
    core: list[tuple[float, int, list[tuple[float, float, int]]]] = []
    for group in range(len(offsets) - 1):
        first, end = offsets[group], offsets[group + 1]
        worth = [gains[i] - price * costs[i] for i in range(first, end)]
        best = min(range(len(worth)), key=[(-w, costs[first + i]) for i, w in enumerate(worth)].__getitem__)
        base.append(best)
        others = sorted(
            (worth[best] - w, costs[first + i] - costs[first + best], i) for i, w in enumerate(worth) if i != best
        )
        if others:
            core.append((others[0][0], group, [(cost, loss, item) for loss, cost, item in others]))
    return base, sorted(core, key=lambda entry: entry[:2])


def _largest_savings(core: list[tuple[float, int, list[tuple[float, float, int]]]]) -> list[float]:
    """How much cost the groups from each position on could save at most."""
    savings = [0.0]
    for _, _, others in reversed(core):
        savings.append(savings[-1] + max(0.0, -min(cost for cost, _, _ in others)))
    return savings[::-1]


def _undominated(states: list[_State], price: float) -> list[_State]:
    """States in ascending cost whose gain, −loss + price·cost, rises."""
    kept: list[_State] = []
    best = -math.inf
    for state in sorted(states, key=lambda s: (s.cost, s.loss)):
        gain = price * state.cost - state.loss
        if gain > best:
            kept.append(state)
            best = gain
    return kept


def _doubles(values: Sequence[float]) -> "array[float]":
    return values if isinstance(values, array) and values.typecode == "d" else array("d", values)


def _integers(values: Sequence[int]) -> "array[int]":
    return values if isinstance(values, array) and values.typecode == "q" else array("q", values)
