"""Ranks in proportion to utility, tempered towards uniform; no layer is frozen unless a budget forces it.

The rank of a module is (uniform's rank) · (its utility for each of its parameters, over the mean)^τ, held between 1 and
four times uniform's rank, and scaled so that the budget is used up (`layerlens_builtin.strategies.shares`). τ = 0 is
uniform, τ = 1 gives parameters in proportion to utility, as GoRA does (arXiv 2502.12171).
"""

import math
from collections.abc import Sequence

import attrs
from attrs import frozen

from layerlens_builtin.strategies.evenly import evenly
from layerlens_builtin.strategies.reach import within_reach
from layerlens_builtin.strategies.shares import Place, most_that_fits, share_out
from layerlens_builtin.strategies.squares import share_squares
from layerlens_core.plugin import (
    LORA_METHODS,
    CandidateSet,
    Context,
    Cost,
    Decision,
    Limits,
    PlanError,
    Selection,
    Target,
    Unit,
    candidate_refused,
)

#: τ unless ``--set temper=`` says otherwise.
TEMPER = 0.5
#: What a utility is divided by before it is tempered: ``parameter`` (those of a notch) or ``module`` (nothing).
PER = "parameter"


@frozen(kw_only=True)
class Slot:
    """A place of one unit that gets a size of its own.

    unit: the unit's place in the candidate set.
    targets: names of the modules that share the size.
    notch: the step of the size.
    place: what it may get.
    """

    unit: int
    targets: tuple[str, ...]
    notch: int
    place: Place


def select(candidates: CandidateSet, limits: Limits, context: Context) -> Selection:
    """The method of the largest capacity for every unit, its sizes in proportion to tempered utility.

    Option: ``temper``, τ, from 0 (uniform) to 2. By modules, LoRA's ranks follow the modules' own utilities where some
    metric scores modules, and else the layer's; other methods have one size a layer.

    Where parameters do not suffice for the smallest size everywhere, the most useful modules get that. Memory and FLOPs
    that do not suffice freeze layers from the bottom, as `evenly` says.

    Raises `BudgetError` where no unit can have the smallest size.
    """
    temper = _temper(context.options.get("temper"))
    candidates, chosen = within_reach(candidates, limits)
    slots = _slots(candidates, context, temper)
    one_each = sum(slot.place.first for slot in slots)
    # The depth is a question of memory and FLOPs; few parameters go to the most useful modules, wherever they are.
    depth_limits = limits
    if limits.params is not None and limits.params < one_each:
        depth_limits = attrs.evolve(limits, params=one_each)
    even = evenly(candidates, depth_limits)
    trained = [slot for slot in slots if slot.unit >= even.first]
    sizes = _fitted(candidates, trained, even.sizes(candidates), limits)
    decisions = tuple(
        _decision(unit, candidates.largest_method(unit), method, by_target, f"{temper:g}{chosen}")
        for unit, method, by_target in zip(candidates.units, even.methods, sizes, strict=True)
        if context.only in (None, unit.name)
    )
    idle = sum(not any(by_target.values()) for by_target in sizes[even.first :])
    notes = even.notes
    if idle:
        notes += (f"the budget has no parameters for {idle} of the {len(sizes) - even.first} other layers",)
    return Selection(decisions=decisions, notes=notes)


def _temper(text: str | None) -> float:
    if text is None:
        return TEMPER
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 2:
        raise PlanError(f"the option 'temper' is a number from 0 (uniform) to 2, not {text!r}")
    return value


def _slots(candidates: CandidateSet, context: Context, temper: float) -> list[Slot]:
    """What gets sizes of its own in all units."""
    found = []
    scored = any(any(unit.importance.values()) for unit in candidates.units)
    for index, unit in enumerate(candidates.units):
        method = candidates.largest_method(unit)
        targets, notch = unit.targets[method], unit.notches[method]
        if not targets:  # it can only be left alone
            continue
        smallest, largest = unit.sizes(method)[0], unit.sizes(method)[-1]
        singly = context.granularity == "module" and method in LORA_METHODS and scored
        for group, utility in _by_module(unit, targets) if singly else [(targets, unit.utility)]:
            first, step = sum(t.parameters(smallest) for t in group), sum(t.per_size * notch for t in group)
            squared = any(t.per_square for t in group)
            # The width of a core's module, by which LoRA would count.
            width = sum(t.flops_frozen for t in group) / 2 if squared else step
            basis = width if PER == "parameter" else len(group)
            weight = (max(utility, 0.0) / max(basis, 1)) ** temper
            if squared:
                weight *= width
            place = Place(
                weight=weight,
                first=first,
                step=step,
                most=largest // notch,
                members=len(group),
                least=smallest // notch,
            )
            found.append(Slot(unit=index, targets=tuple(t.name for t in group), notch=notch, place=place))
    return found


def _by_module(unit: Unit, targets: Sequence[Target]) -> list[tuple[tuple[Target, ...], float]]:
    """Each target with its own utility; stacked experts, which have none, are worth for a parameter what others are."""
    own = {target.name: unit.importance[target.name] for target in targets if target.name in unit.importance}
    params = sum(target.per_size for target in targets if target.name in own)
    mean = sum(own.values()) / params if params else 0.0
    return [((target,), own.get(target.name, mean * target.per_size)) for target in targets]


def _fitted(
    candidates: CandidateSet, slots: Sequence[Slot], even: Sequence[dict[str, int]], limits: Limits
) -> list[dict[str, int]]:
    """Size by target for every unit, within all limits.

    Where other resources than parameters are bounded, as many parameters are handed out as those allow, found by
    halving. Every outcome is checked, so that it does not matter if costs do not quite grow with parameters.
    """
    places = [slot.place for slot in slots]

    def sized(limit: int | None) -> list[dict[str, int]]:
        found = [dict.fromkeys(by_target, 0) for by_target in even]
        for slot, notches in zip(slots, _notches(places, limit), strict=True):
            found[slot.unit] |= dict.fromkeys(slot.targets, notches * slot.notch)
        return found

    def params(sizes: Sequence[dict[str, int]]) -> int:
        return sum(cost.params for cost in costs(sizes))

    def costs(sizes: Sequence[dict[str, int]]) -> list[Cost]:
        return [cost_at(unit, by_target) for unit, by_target in zip(candidates.units, sizes, strict=True)]

    def cost_at(unit: Unit, by_target: dict[str, int]) -> Cost:
        return unit.cost(candidates.largest_method(unit), by_target) if by_target else Cost()

    def fits(sizes: Sequence[dict[str, int]]) -> bool:
        return candidates.total_of(zip(candidates.units, costs(sizes), strict=True)).within(limits)

    sizes = sized(limits.params)
    if not limits.bounds.keys() - {"params"} or fits(sizes):
        return sizes
    low, high = min(sum(place.first for place in places), params(sizes)), params(sizes)
    return most_that_fits(low, high, sized, fits)


def _notches(places: Sequence[Place], limit: int | None) -> list[int]:
    """Notches by place: shared out, or the least for the most useful ones where there is not even that for all."""
    if places and all(place.step == 0 for place in places) and limit is not None:
        return _squared(places, limit)
    if limit is None or limit >= sum(place.first for place in places):
        return share_out(places, limit)
    return _first_come(places, limit)


def _first_come(places: Sequence[Place], limit: int) -> list[int]:
    """The least size for the most useful places, as far as the limit goes."""
    notches = [0] * len(places)
    for index in sorted(range(len(places)), key=lambda i: (-places[i].weight, -i)):
        if places[index].first <= limit:
            notches[index] = places[index].least
            limit -= places[index].first
    return notches


def _squared(places: Sequence[Place], limit: int) -> list[int]:
    """Sizes of cores by place, each for all its members; the least for the most useful ones where that is too much."""
    members = [place.members for place in places]
    if sum(place.first for place in places) > limit:
        return _first_come(places, limit)
    weights = [place.weight / count for place, count in zip(places, members, strict=True) for _ in range(count)]
    most = [place.most for place in places for _ in range(place.members)]
    least = [place.least for place in places for _ in range(place.members)]
    sizes = iter(share_squares(weights, most, limit, least))
    return [min(next(sizes) for _ in range(count)) for count in members]


def _decision(unit: Unit, wanted: str, method: str, sizes: dict[str, int], temper: str) -> Decision:
    if not any(sizes.values()):
        deep = "memory or FLOPs do not suffice for all layers, and the lowest ones are frozen first"
        reason = (
            deep if method == "none" else "the budget has no parameters left: modules of other layers are worth more"
        )
        candidate_refused(unit.name, wanted, reason)
        return unit.decide("none", reason=reason)
    low, high = min(sizes.values()), max(sizes.values())
    words = f"{method} of size {low}" + (f" to {high}" if low < high else "")
    per = " for each parameter" if PER == "parameter" else ""
    return unit.decide(method, low, sizes=sizes, reason=f"{words}: in proportion to (utility{per})^{temper}")
