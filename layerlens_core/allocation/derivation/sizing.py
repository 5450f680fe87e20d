"""How a layer's sizes come about: what every module holds, what that takes, and what one step more would take."""

from statistics import fmean

from attrs import frozen

from layerlens_core.allocation.problem import Problem
from layerlens_core.values.candidates import Target, Unit
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import LORA_METHODS, Plan

#: Of these methods PEFT takes an α.
_WITH_ALPHA = LORA_METHODS - {"core"}


@frozen(kw_only=True)
class Sized:
    """One module's size, and what it follows from.

    module: its name.
    size: rank, bottleneck width or prefix length.
    alpha: LoRA's α, the rank times the plan's α/r; None of other methods.
    parameters: trainable ones at this size.
    step: parameters that the next larger size adds; None at the largest.
    relative: its utility for each parameter of a step, over the mean of all modules of the plan's method; None where
        modules have no utility of their own.
    """

    module: str
    size: int
    alpha: int | None
    parameters: int
    step: int | None
    relative: float | None


def sizing(problem: Problem, plan: Plan, layer: str) -> tuple[tuple[Sized, ...], tuple[str, ...]]:
    """The modules of one layer, and sentences on what bounds their sizes; nothing for a layer that trains nothing.

    problem: that the plan solves.
    plan: that decides on the layer.
    layer: its full name.
    """
    decision = next(each for each in plan.decisions if each.unit == layer)
    if layer not in problem.candidates.by_name or not any(decision.sizes.values()):
        return (), ()
    unit = problem.candidates.by_name[layer]
    offered, mean = unit.sizes(decision.method), _mean_worth(problem, decision.method)
    found = []
    for target in unit.targets[decision.method]:
        size = decision.sizes[target.name]
        larger = next((each for each in offered if each > size), None)
        worth = _worth(unit, target)
        found.append(
            Sized(
                module=target.name,
                size=size,
                alpha=size * plan.scale if decision.method in _WITH_ALPHA else None,
                parameters=target.parameters(size),
                step=None if larger is None else target.parameters(larger) - target.parameters(size),
                relative=worth / mean if mean and worth is not None else None,
            )
        )
    return tuple(found), tuple(_sentences(found, decision, offered, plan))


def _sentences(found: list[Sized], decision: Decision, offered: list[int], plan: Plan) -> list[str]:
    told = [f"sizes of {decision.method} here go from {offered[0]} to {offered[-1]}"]
    if found[0].alpha is not None:
        told.append(f"α is {plan.scale} times the rank, in every module of the plan")
    if plan.limit is None:
        return told
    left = plan.limit - plan.parameters
    steps = [each.step for each in found if each.step is not None]
    if not steps:
        told.append("every module has the largest size")
    elif (least := min(steps)) > left:
        told.append(f"the cheapest step more takes {least:,} parameters, and the plan leaves {left:,}: none fits")
    else:
        told.append(f"the cheapest step more takes {least:,} parameters, and the plan leaves {left:,}")
    return told


def _worth(unit: Unit, target: Target) -> float | None:
    """A module's utility for each parameter of a step of its size."""
    own = unit.importance.get(target.name)
    price = target.per_size or target.flops_frozen / 2  # of cores the width that LoRA would count by
    return None if own is None or not price else max(own, 0.0) / price


def _mean_worth(problem: Problem, method: str) -> float | None:
    """The mean of that over all modules to which the method attaches."""
    worths = [
        worth
        for unit in problem.candidates.units
        if any(unit.importance.values())
        for target in unit.targets.get(method, ())
        if (worth := _worth(unit, target)) is not None
    ]
    return fmean(worths) if worths else None
