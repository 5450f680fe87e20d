"""Give units sizes in proportion to their utilities until a budget is used up.

Whole notches are handed out one at a time, each to the unit with the largest utility / (notches held + 1):
the D'Hondt (Jefferson) method, which approaches proportional sizes and never gives a unit fewer notches than
one of smaller utility that pays the same.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

from attrs import frozen


@frozen(kw_only=True)
class Claim:
    """What one unit may claim: at least one notch, at most ``most``.

    utility: of the unit.
    price: parameters of the first notch.
    step: parameters of every further notch.
    most: notches at most.
    group: claims of one group (a method) compare; none outgrows one of larger utility in its group.
    """

    utility: float
    price: int
    step: int
    most: int
    group: str


def apportion(claims: Sequence[Claim], limit: int | None) -> list[int]:
    """Notches for each claim, from 1 to the claim's most, with a total price of at most the limit.

    Runs in O(N log N) for N notches that could be claimed; see `Apportionment` for several limits.

    claims: of all units.
    limit: parameters in all; None gives each claim its most.

    Raises ``ValueError`` where one notch for each claim already exceeds the limit.
    """
    return Apportionment(claims)(limit)


class Apportionment:
    """The claims of all units, made ready for one limit after the other; see `apportion`."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._claims = claims
        self._first = sum(claim.price for claim in claims)
        self._all = self._first + sum(claim.step * (claim.most - 1) for claim in claims)

    @cached_property
    def _order(self) -> list[int]:
        return _order(self._claims)

    @cached_property
    def _spent(self) -> list[int]:
        """What is spent, beyond the first notches, up to each place of the order."""
        return list(accumulate(self._claims[index].step for index in self._order))

    @cached_property
    def _least(self) -> list[int]:
        """The smallest step from each place of the order on."""
        return list(accumulate((self._claims[index].step for index in reversed(self._order)), min))[::-1]

    def __call__(self, limit: int | None) -> list[int]:
        """See `apportion`."""
        claims = self._claims
        if limit is None or limit >= self._all:
            return [claim.most for claim in claims]
        left = limit - self._first
        if left < 0:
            raise ValueError(f"one notch each costs {self._first}, above the limit of {limit}")
        order, spent = self._order, self._spent
        affordable = bisect_right(spent, left)  # up to here every notch fits
        notches = [1] * len(claims)
        for index in order[:affordable]:
            notches[index] += 1
        left -= spent[affordable - 1] if affordable else 0
        barriers: dict[str, _Barrier] = {claim.group: _Barrier() for claim in claims}
        closed: set[int] = set()
        for position in range(affordable, len(order)):
            if self._least[position] > left:
                break
            index = order[position]
            claim = claims[index]
            if index in closed:
                continue
            if notches[index] >= barriers[claim.group].cap(claim.utility):
                closed.add(index)
            elif claim.step > left:
                # A unit that cannot afford its next notch must not be outgrown by one of smaller utility.
                barriers[claim.group].add(claim.utility, notches[index])
                closed.add(index)
            else:
                left -= claim.step
                notches[index] += 1
        return notches


def _order(claims: Sequence[Claim]) -> list[int]:
    """The claim of every notch beyond the first, in the order in which notches are handed out while all fit.

    By falling utility / (notches held + 1). Among equal quotients (all of utility 0, say) the claim that holds less
    comes first, and then the one of larger utility: utilities that differ in the last place have quotients that round
    to the same number.
    """
    import numpy

    ranked = sorted(range(len(claims)), key=lambda index: (-claims[index].utility, index))
    more = numpy.array([claims[index].most - 1 for index in ranked])
    rank = numpy.repeat(numpy.arange(len(claims)), more)
    held = 1 + numpy.arange(len(rank)) - numpy.repeat(more.cumsum() - more, more)
    quotients = numpy.array([claims[index].utility for index in ranked])[rank] / (held + 1)
    # Stable: what ties in both stays in the order of ``ranked``.
    order: list[int] = numpy.array(ranked)[rank[numpy.lexsort((held, -quotients))]].tolist()
    return order


class _Barrier:
    """What units of one group hold that cannot afford more: no unit of smaller utility may hold more than they do."""

    def __init__(self) -> None:
        # Both ascend: who has a larger utility and holds no more than another makes the other superfluous.
        self._utilities: list[float] = []
        self._notches: list[int] = []

    def cap(self, utility: float) -> float:
        """The most that a unit of this utility may hold."""
        above = bisect_right(self._utilities, utility)
        return self._notches[above] if above < len(self._notches) else math.inf

    def add(self, utility: float, notches: int) -> None:
        """A unit stays at this."""
        end = bisect_left(self._utilities, utility)
        if end < len(self._notches) and self._notches[end] <= notches:
            return
        begin = bisect_left(self._notches, notches, hi=end)
        if end < len(self._utilities) and self._utilities[end] == utility:
            end += 1
        self._utilities[begin:end], self._notches[begin:end] = [utility], [notches]
