"""The control of a plan: its sizes on other places of the same cost. What is left of its gain is not its choice."""

from collections.abc import Hashable, Mapping, Sequence

from layerlens_core.comparison.arms.case import Case
from layerlens_core.comparison.arms.ground import Ground, Place, Sizes, Unfit
from layerlens_core.comparison.arms.of_plan import arm_of_plan
from layerlens_core.values.candidates import Unit
from layerlens_core.values.comparison import Arm

#: Draws until one differs from the plan and fits the limits on memory and FLOPs, which depend on the depth trained.
_DRAWS = 50


def shuffled(case: Case) -> Arm:
    """The plan's sizes permuted among places of equal cost, frozen ones included: equal parameters, another choice.

    Where the plan holds several methods, whole layers of equal shape are exchanged first, as a layer holds one method.
    """
    planned = arm_of_plan(case.planned(), "", case.budget).sizes
    ground = case.ground(*planned)
    if not _can_differ(ground, planned):
        raise Unfit("no two places of equal cost differ in size in the plan, so every shuffling is the plan itself")
    for trained_alone in (False, True):
        for draw in range(_DRAWS):
            sizes = _permuted(case, ground, planned, f"shuffled {draw}", trained_alone)
            if sizes != planned and ground.fits(ground.cost(sizes)):
                where = "trained places" if trained_alone else "places, frozen ones included,"
                return case.arm(sizes, f"the plan's sizes, permuted by seed {case.seed} among {where} of equal cost")
    raise Unfit(f"no shuffling of the plan in {2 * _DRAWS} draws keeps to {case.budget} and differs from it")


def _can_differ(ground: Ground, planned: Sizes) -> bool:
    """Whether any exchange within places of one cost, or of whole layers, changes anything."""
    if len(planned) > 1:
        return True  # layers of two methods may be exchanged; draws tell
    method, sizes = next(iter(planned.items()))
    held: dict[Hashable, set[int]] = {}
    for place in ground.places(method):
        held.setdefault(_group(place), set()).add(sizes.get(place.name, 0))
    return any(len(different) > 1 for different in held.values())


def _permuted(case: Case, ground: Ground, planned: Sizes, rule: str, trained_alone: bool) -> Sizes:
    """The sizes after one draw.

    case: with the seed.
    ground: of all methods of the plan.
    planned: sizes to permute.
    rule: that draws.
    trained_alone: whether places that the plan leaves frozen stay so.
    """
    sizes = planned if len(planned) == 1 else _layers_exchanged(case, ground, planned, f"{rule}: layers")
    permuted: dict[str, dict[str, int]] = {}
    for method, of in sizes.items():
        places = ground.places(method)
        if len(sizes) > 1:  # places of another method's layers are not this one's
            mine = {place.unit.name for place in places if of.get(place.name)}
            places = tuple(place for place in places if place.unit.name in mine)
        if trained_alone:
            places = tuple(place for place in places if of.get(place.name))
        permuted[method] = _within_groups(case, places, of, f"{rule}: {method}")
    return permuted


def _within_groups(case: Case, places: Sequence[Place], sizes: Mapping[str, int], rule: str) -> dict[str, int]:
    groups: dict[Hashable, list[Place]] = {}
    for place in places:
        groups.setdefault(_group(place), []).append(place)
    result: dict[str, int] = {}
    for number, members in enumerate(groups.values()):
        drawn = case.drawn(f"{rule} {number}", [sizes.get(place.name, 0) for place in members])
        result.update({place.name: size for place, size in zip(members, drawn, strict=True) if size})
    return result


def _group(place: Place) -> Hashable:
    """Places of one group can hold each other's sizes at the same parameters and within their full ranks.

    A place without a size costs nothing, so that frozen places are of the group too.
    """
    return place.price, place.cap


def _layers_exchanged(case: Case, ground: Ground, planned: Sizes, rule: str) -> Sizes:
    """Every layer's method and sizes, given to a drawn layer that offers the same places at the same costs."""
    units = ground.problem.candidates.units
    groups: dict[Hashable, list[Unit]] = {}
    for unit in units:
        groups.setdefault(_shape(unit, planned), []).append(unit)
    result: dict[str, dict[str, int]] = {method: {} for method in planned}
    for number, members in enumerate(groups.values()):
        for giver, taker in zip(case.drawn(f"{rule} {number}", members), members, strict=True):
            for method, of in planned.items():
                pairs = zip(giver.targets.get(method, ()), taker.targets.get(method, ()), strict=True)
                result[method].update({there.name: of[here.name] for here, there in pairs if of.get(here.name)})
    return result


def _shape(unit: Unit, methods: Sizes) -> Hashable:
    return tuple(
        (method, tuple((target.fixed, target.per_size) for target in unit.targets.get(method, ())))
        for method in methods
    )
