"""Give units sizes in proportion to their utilities until a budget is used up.

Whole notches are handed out one at a time, each to the unit with the largest utility / (notches held + 1):
the D'Hondt (Jefferson) method, which approaches proportional sizes and never gives a unit fewer notches than
one of smaller utility that pays the same.
"""

import heapq
from collections.abc import Sequence

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

    Runs in O(notches · log claims).

    claims: of all units.
    limit: parameters in all; None gives each claim its most.

    Raises ``ValueError`` where one notch for each claim already exceeds the limit.
    """
    if limit is None:
        return [claim.most for claim in claims]
    left = limit - sum(claim.price for claim in claims)
    if left < 0:
        raise ValueError(f"one notch each costs {limit - left}, above the limit of {limit}")
    notches = [1] * len(claims)
    caps = [claim.most for claim in claims]
    queue = [_priority(claim, 1, index) for index, claim in enumerate(claims)]
    heapq.heapify(queue)
    while queue:
        index = heapq.heappop(queue)[-1]
        claim = claims[index]
        if notches[index] >= caps[index]:
            continue
        if claim.step > left:
            # A unit that cannot afford its next notch must not be outgrown by one of smaller utility.
            for other, rival in enumerate(claims):
                if rival.group == claim.group and rival.utility < claim.utility:
                    caps[other] = min(caps[other], notches[index])
            continue
        left -= claim.step
        notches[index] += 1
        heapq.heappush(queue, _priority(claim, notches[index], index))
    return notches


def _priority(claim: Claim, notches: int, index: int) -> tuple[float, int, float, int]:
    # Among equal quotients (all of utility 0, say) the claim that holds less comes first, and then the one of larger
    # utility: utilities that differ in the last place have quotients that round to the same number.
    return (-claim.utility / (notches + 1), notches, -claim.utility, index)
