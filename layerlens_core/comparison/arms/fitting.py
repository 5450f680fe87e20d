"""Sizes that use a budget up: one size everywhere, or sizes in proportion, and what is left by one step each."""

from collections.abc import Callable, Mapping, Sequence

from layerlens_core.comparison.arms.ground import Ground, Place, Unfit
from layerlens_core.values.costs import Cost

#: Doublings, and then halvings, in the search for the largest factor that a budget allows.
_STEPS = 60


def level(
    ground: Ground, method: str, places: Sequence[Place], caps: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The largest size that fits everywhere alike, capped place by place; at least 1.

    ground: costs and limits.
    method: whose size it is.
    places: where.
    caps: by place, the largest size, in place of the places' own.

    Raises `Unfit` where size 1 everywhere exceeds a limit.
    """
    most = {place.name: (caps or {}).get(place.name, place.cap) for place in places}

    def sizes_at(size: int) -> dict[str, int]:
        return {name: min(size, cap) for name, cap in most.items()}

    low, high = 0, max(most.values(), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if ground.fits(ground.cost({method: sizes_at(middle)})):
            low = middle
        else:
            high = middle - 1
    if low < 1:
        raise too_small(ground, method, sizes_at(1))
    return sizes_at(low)


def fill(
    ground: Ground,
    method: str,
    sizes: Mapping[str, int],
    order: Sequence[Place],
    caps: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """These sizes, and one step more at each place of an order that can still afford it.

    ground: costs and limits.
    method: whose sizes they are.
    sizes: by place; they fit.
    order: of the places that may grow.
    caps: as in `level`.
    """
    filled = dict(sizes)
    spent = ground.cost({method: filled})
    trained = {place.unit.depth for place in ground.places(method) if filled.get(place.name)}
    for place in order:
        size = filled.get(place.name, 0)
        if size >= (caps or {}).get(place.name, place.cap):
            continue
        after = spent + place.step(size) + _deeper(ground, place.unit.depth, trained)
        if ground.fits(after):
            filled[place.name] = size + 1
            trained.add(place.unit.depth)
            spent = after
    return filled


def _deeper(ground: Ground, depth: int, trained: set[int]) -> Cost:
    """What the frozen model costs more once training reaches this depth."""
    lowest = min(trained, default=None)
    if lowest is not None and lowest <= depth:
        return Cost()
    candidates = ground.problem.candidates
    return candidates.base(depth) - candidates.base(lowest)


def largest(ground: Ground, method: str, sizes_at: Callable[[float], dict[str, int]]) -> tuple[float, dict[str, int]]:
    """The largest factor whose sizes fit, and these sizes.

    ground: costs and limits.
    method: whose sizes they are.
    sizes_at: sizes by place at a factor ≥ 0; none shrinks as the factor grows, and they end somewhere.

    Raises `Unfit` where the sizes at factor 0 exceed a limit, where nothing trains at the factor that is found, and
    where nothing does at any.
    """

    def fits(factor: float) -> bool:
        return ground.fits(ground.cost({method: sizes_at(factor)}))

    if not fits(0.0):
        raise too_small(ground, method, sizes_at(0.0))
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        if not fits(high):
            break
        low, high = high, 2 * high
    else:  # all are at their caps
        if not any(sizes_at(low).values()):
            raise Unfit(f"the rule gives no place any size of {method}")
        return low, sizes_at(low)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    found = sizes_at(low)
    if not any(found.values()):
        raise too_small(ground, method, sizes_at(high))
    return low, found


def too_small(ground: Ground, method: str, least: Mapping[str, int]) -> Unfit:
    """That the least an arm needs exceeds the budget.

    ground: costs and limits.
    method: whose sizes they are.
    least: the smallest sizes that the rule knows.
    """
    cost = ground.cost({method: least})
    over = [
        f"{getattr(cost, name):,.10g} of {name}, and {bound:,.10g} are allowed"
        for name, bound in ground.limits.bounds.items()
        if getattr(cost, name) > bound
    ]
    trained = sum(size > 0 for size in least.values())
    places = f"{trained} place{'s' * (trained != 1)}"
    return Unfit(f"the least that it trains, {method} at {places}, takes {'; '.join(over)}")
