"""What a strategy owes: every unit decided once, by a candidate, at its true cost, within the limits."""

from collections.abc import Iterable

from layerlens_core.errors import BudgetError, PlanError
from layerlens_core.values.candidates import CandidateSet, Unit
from layerlens_core.values.costs import Limits
from layerlens_core.values.decisions import Decision


def check_decisions(
    decisions: Iterable[Decision], candidates: CandidateSet, limits: Limits, strategy: str
) -> tuple[Decision, ...]:
    """The decisions in model order, after holding the strategy to its contract.

    decisions: as the strategy gave them.
    candidates: that it was given.
    limits: likewise.
    strategy: its name, for messages.

    Raises `PlanError` where a unit is decided twice or not at all, where a decision is no candidate or its
    parameters are not what its sizes cost, and `BudgetError` where the limits are exceeded.
    """
    by_unit: dict[str, Decision] = {}
    units = candidates.by_name
    for decision in decisions:
        if not isinstance(decision, Decision):
            raise PlanError(f"strategy {strategy!r} must return Decisions, but returned {type(decision).__name__}")
        if decision.unit not in units or decision.unit in by_unit:
            word = "twice" if decision.unit in by_unit else "but there is no such unit"
            raise PlanError(f"strategy {strategy!r} decided on {decision.unit!r} {word}")
        _check_decision(decision, units[decision.unit], strategy)
        by_unit[decision.unit] = decision
    missing = [name for name in units if name not in by_unit]
    if missing:
        raise PlanError(f"strategy {strategy!r} decided nothing for {', '.join(missing[:5])}")
    spent = candidates.total(list(by_unit.values()))
    for name in spent.exceeded(limits):
        raise BudgetError(
            f"strategy {strategy!r} spent {getattr(spent, name):,.10g} {name}, above the limit of "
            f"{limits.bounds[name]:,.10g}"
        )
    return tuple(by_unit[name] for name in units)


def _check_decision(decision: Decision, unit: Unit, strategy: str) -> None:
    where = f"strategy {strategy!r} on {unit.name!r}"
    if not unit.offers(decision.method):
        raise PlanError(f"{where}: method {decision.method!r} is no candidate here")
    targets = {target.name: target for target in unit.targets.get(decision.method, ())}
    if set(decision.sizes) != set(targets):
        raise PlanError(f"{where}: sizes must name the targets of {decision.method!r}: {', '.join(targets)}")
    if any(not isinstance(size, int) or size < 0 for size in decision.sizes.values()):
        raise PlanError(f"{where}: sizes are whole numbers of at least 0")
    sizes = decision.sizes.values()
    largest = unit.sizes(decision.method)[-1]
    if max(sizes, default=0) > largest:
        raise PlanError(f"{where}: a size of {max(sizes)} is above {largest}, the largest of {decision.method!r} here")
    smallest = unit.sizes(decision.method)[0]
    # Below the first notch there is no candidate, but no harm either; only a smallest rank is the user's word.
    too_small = [size for size in sizes if 0 < size < smallest]
    if too_small and smallest > unit.notches[decision.method]:
        raise PlanError(
            f"{where}: a size of {min(too_small)} is below {smallest}, the smallest of {decision.method!r} here"
        )
    if not min(sizes, default=0) <= decision.size <= max(sizes, default=0):
        raise PlanError(
            f"{where}: a size of {decision.size} is not between the smallest and the largest of its modules"
            if sizes
            else f"{where}: {decision.method!r} trains nothing, so its size is 0, not {decision.size}"
        )
    if decision.utility != unit.utility:
        raise PlanError(f"{where}: its utility is {unit.utility!r}, not {decision.utility!r}")
    cost = unit.cost(decision.method, decision.sizes)
    if cost != decision.cost:
        raise PlanError(
            f"{where}: its sizes cost {cost.params:,} parameters in all, not {decision.cost.params:,}, or differ in "
            "another cost; let unit.decide compute it"
        )
