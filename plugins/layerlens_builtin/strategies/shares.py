"""Whole sizes in proportion to weights, between one notch and a few times the equal size, for exactly a budget."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: No place gets more than so many times the equal size.
MOST = 4.0
#: Halvings of the interval in which the common factor lies: to the last place of a double.
HALVINGS = 200

#: By unit, the size of each of its places.
Sizes = list[dict[str, int]]


@frozen(kw_only=True)
class Place:
    """What gets one size: a module, or all modules of a unit that share one.

    weight: at least 0; sizes are in proportion to it.
    first: parameters of the least size.
    step: parameters of every further notch.
    most: notches at most.
    members: modules that share the size.
    least: notches at least.
    """

    weight: float
    first: int
    step: int
    most: int
    members: int = 1
    least: int = 1


def share_out(places: Sequence[Place], limit: int | None) -> list[int]:
    """Notches for each place: at least its least, and in all at most the limit, and as near to it as steps allow.

    The size of a place is c·weight, held between its least and the smaller of its most and `MOST` times the equal size
    that the limit allows; c is what uses the limit up. Sizes are rounded down, and what that leaves is handed out by
    largest remainder, one notch each, while it lasts; then to whoever can still be raised, in the same order.

    places: what to size.
    limit: on parameters in all; None gives each place its most.

    Raises ``ValueError`` where the least sizes exceed the limit.
    """
    import numpy

    if not places:
        return []
    first = numpy.array([place.first for place in places], dtype=numpy.int64)
    step = numpy.array([place.step for place in places], dtype=numpy.int64)
    most = numpy.array([place.most for place in places], dtype=numpy.int64)
    least = numpy.array([place.least for place in places], dtype=numpy.int64)
    if limit is None or limit >= int((first + step * (most - least)).sum()):
        return [place.most for place in places]
    beyond = limit - int(first.sum())
    if beyond < 0:
        raise ValueError(f"the least sizes cost {int(first.sum())}, above the limit of {limit}")
    equal = int((step * least).sum()) / int(step.sum()) + beyond / int(step.sum())
    caps = numpy.minimum(most, numpy.maximum(least, MOST * equal))
    targets = _targets(numpy.array([place.weight for place in places]), step, least, caps, beyond)
    notches = numpy.floor(targets).astype(numpy.int64)
    left = beyond - int((step * (notches - least)).sum())
    order = numpy.argsort(notches - targets, kind="stable").tolist()
    held: list[int] = notches.tolist()
    steps, caps = step.tolist(), most.tolist()
    while order:
        raised = []
        for place in order:
            if held[place] < caps[place] and steps[place] <= left:
                held[place] += 1
                left -= steps[place]
                raised.append(place)
        order = raised  # what could not be raised never can be: less is left
    return held


def _targets(
    weights: "NDArray[Any]", step: "NDArray[Any]", least: "NDArray[Any]", caps: "NDArray[Any]", beyond: int
) -> "NDArray[Any]":
    """Sizes that are no whole numbers: c·weight within bounds, which cost at most what there is beyond the least.

    weights: by place, at least 0.
    step: parameters of a notch by place.
    least: smallest size by place.
    caps: largest size by place.
    beyond: parameters.
    """
    import numpy

    largest = weights.max()
    # Where nothing weighs anything, all weigh alike.
    weights = weights / largest if largest > 0 else numpy.ones_like(weights)
    low, high = 0.0, 1.0

    def sizes(factor: float) -> "NDArray[Any]":
        return numpy.clip(factor * weights, least, caps)

    def fits(factor: float) -> bool:
        return bool((step * (sizes(factor) - least)).sum() <= beyond)

    while fits(high) and (sizes(high) < caps)[weights > 0].any():
        low, high = high, high * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if fits(middle) else (low, middle)
    return sizes(low)


def most_that_fits(low: int, high: int, shared: Callable[[int], Sizes], fits: Callable[[Sizes], bool]) -> Sizes:
    """What the largest limit on parameters gives that fits, found by halving.

    Every outcome that is taken was checked, but for that of the least limit.

    low: least limit, whose outcome is taken where nothing larger fits.
    high: limit that is known to be too large.
    shared: gives sizes within a limit.
    fits: whether sizes keep all other limits.
    """
    best = shared(low)
    while low + 1 < high:
        middle = (low + high) // 2
        tried = shared(middle)
        if fits(tried):
            low, best = middle, tried
        else:
            high = middle
    return best
