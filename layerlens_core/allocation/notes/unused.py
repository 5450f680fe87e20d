"""What a plan leaves of its budget, and why nothing was made of it."""

from collections.abc import Mapping, Sequence

from layerlens_core.allocation.budget import readable
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision

#: Less of a resource that is no count is no more than rounding of what was asked for.
WORTH_SAYING = 1e-3


def unused(
    candidates: CandidateSet, limits: Limits, decisions: Sequence[Decision], cost: Cost, room: Mapping[str, int]
) -> tuple[str, ...]:
    """A sentence for each bounded resource of which the plan leaves something.

    candidates: of all units.
    limits: what is allowed.
    decisions: of all units.
    cost: of the whole plan.
    room: by unit, the largest rank that could be asked for, where it has ranks.
    """
    found = []
    for name, bound in limits.bounds.items():
        left = bound - getattr(cost, name)
        if left <= (0 if name == "params" else WORTH_SAYING * bound):
            continue
        what = "trainable parameters" if name == "params" else name
        share = f" ({left / bound:.1%})"
        why = f": {_why(candidates, decisions, limits, left, room)}" if name == "params" else ""
        found.append(f"{readable(name, left)} of {readable(name, bound)} {what}{share} are left unused{why}")
    return tuple(found)


def _why(
    candidates: CandidateSet, decisions: Sequence[Decision], limits: Limits, left: float, room: Mapping[str, int]
) -> str:
    steps = []
    for decision in decisions:
        unit = candidates.by_name[decision.unit]
        sizes = unit.sizes(decision.method)
        steps += [
            target.per_size * unit.notches[decision.method]
            for target in unit.targets.get(decision.method, ())
            if decision.sizes[target.name] < sizes[-1]
        ]
    if not steps:
        return "every module that is trained has its largest size" + _capped(candidates, decisions, room)
    if min(steps) > left:
        return f"the smallest step takes {min(steps):,}"
    if len(limits.bounds) > 1:
        return "another bound, or the strategy, allows no more"
    return "the strategy asks for no more" + _capped(candidates, decisions, room)


def _capped(candidates: CandidateSet, decisions: Sequence[Decision], room: Mapping[str, int]) -> str:
    """What holds ranks that could be larger, and how to allow that; nothing where nothing is held."""
    held = []
    for decision in decisions:
        largest = candidates.by_name[decision.unit].sizes(decision.method)[-1]
        if room.get(decision.unit, 0) > largest:
            held += [largest for size in decision.sizes.values() if size == largest]
    if not held:
        return ""
    modules = "1 module is" if len(held) == 1 else f"{len(held)} modules are"
    most = max(room.values())
    return f"; {modules} held at rank {max(held)}, and --max-rank (max_rank=) allows more, up to {most:,} here"
