"""What a plan leaves of its budget, and why nothing was made of it."""

from collections.abc import Sequence

from layerlens_core.allocation.budget import readable
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision

#: Less of a resource that is no count is no more than rounding of what was asked for.
WORTH_SAYING = 1e-3


def unused(candidates: CandidateSet, limits: Limits, decisions: Sequence[Decision], cost: Cost) -> tuple[str, ...]:
    """A sentence for each bounded resource of which the plan leaves something.

    candidates: of all units.
    limits: what is allowed.
    decisions: of all units.
    cost: of the whole plan.
    """
    found = []
    for name, bound in limits.bounds.items():
        left = bound - getattr(cost, name)
        if left <= (0 if name == "params" else WORTH_SAYING * bound):
            continue
        what = "trainable parameters" if name == "params" else name
        share = f" ({left / bound:.1%})"
        why = f": {_why(candidates, decisions, limits, left)}" if name == "params" else ""
        found.append(f"{readable(name, left)} of {readable(name, bound)} {what}{share} are left unused{why}")
    return tuple(found)


def _why(candidates: CandidateSet, decisions: Sequence[Decision], limits: Limits, left: float) -> str:
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
        return "every module that is trained has its largest size"
    if min(steps) > left:
        return f"the smallest step takes {min(steps):,}"
    if len(limits.bounds) > 1:
        return "another bound, or the strategy, allows no more"
    return "the strategy asks for no more"
