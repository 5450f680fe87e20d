"""Whether what a plan says can be: what was asked for, the places that it sizes, and what they cost."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from layerlens_core.values.consistency.profile import at_least, check_digest, once
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Decision
from layerlens_core.values.request import Request

if TYPE_CHECKING:
    from layerlens_core.values.plan import Plan

#: The shapes of places of which a sum of parameters is known, whoever plans them.
_LINEAR, _EXPERTS = {"in_features", "out_features"}, {"experts", "in_features", "out_features"}


def check_plan(plan: "Plan", lora: frozenset[str]) -> None:
    """Raises ``ValueError`` where a plan contradicts itself, beyond what `Plan.check` finds by itself.

    plan: to check.
    lora: the methods whose sizes are LoRA ranks.
    """
    for name, shape in plan.shapes.items():
        if not shape:
            raise ValueError(f"the place {name} has no shape")
        at_least(1, shape, f"the place {name}")
    check_digest(plan.profile, "profile")
    check_digest(plan.directions, "directions")
    check_digest(plan.subspace, "subspace")
    _check_request(plan.request)
    at_least(0, plan.limits.bounds, "the limits")
    _check_cost(plan.cost, "the plan")
    once((head.name for head in plan.heads), "the head")
    for head in plan.heads:
        at_least(0, {"parameters": head.parameters}, head.name)
    if plan.certificate is not None:
        value, bound = plan.certificate.value, plan.certificate.bound
        if not (math.isfinite(value) and math.isfinite(bound) and value <= bound + 1e-6 * max(1.0, abs(bound))):
            raise ValueError(f"the certificate's value {value:g} exceeds its bound {bound:g}")
    for decision in plan.decisions:
        _check_decision(decision)
        if decision.method in lora and (found := _by_rank(decision, plan.shapes)) != decision.parameters:
            planned = plan.parameters
            raise ValueError(
                f"the plan is for {planned:,} trainable parameters, but its sizes take "
                f"{planned - decision.parameters + found:,}, as those of {decision.unit} take {found:,}"
            )


def _check_request(request: Request) -> None:
    at_least(1, {"scale": request.scale}, "the request")
    ranks = {"min_rank": request.min_rank, "max_rank": request.max_rank}
    at_least(1, {name: rank for name, rank in ranks.items() if rank is not None}, "the request")
    weights = request.weights or {}
    at_least(0, weights, "the weights")
    if weights and not any(weights.values()):
        raise ValueError("all weights are 0")
    for method, penalty in request.penalties.items():
        if not 0 < penalty < math.inf:
            raise ValueError(f"the penalty of {method} is {penalty:g}")
    for method, curve in request.gains.items():
        if not curve.sound:
            raise ValueError(f"the gain of {method} has a ceiling of {curve.ceiling:g} and a half of {curve.half:g}")
    if request.methods is not None:
        once(request.methods, "the method")


def _check_decision(decision: Decision) -> None:
    where = f"the decision on {decision.unit}"
    _check_cost(decision.cost, where)
    if decision.margin is not None and not math.isfinite(decision.margin):
        raise ValueError(f"{where} has a margin of {decision.margin}")
    for place in decision.sizes:
        if place != decision.unit and not place.startswith(f"{decision.unit}."):
            raise ValueError(f"{where} gives {place} a size, which lies elsewhere")
    trained = {place: size for place, size in decision.sizes.items() if size}
    if decision.method == "none" and (decision.size or trained):
        raise ValueError(f"{where} is none, with a size")
    if decision.parameters and not trained:
        raise ValueError(f"{where} trains {decision.parameters:,} parameters at no place")


def _by_rank(decision: Decision, shapes: Mapping[str, Mapping[str, int]]) -> int:
    """The parameters of LoRA, or of cores, at a decision's ranks."""
    params = 0
    for place, rank in decision.sizes.items():
        shape = shapes[place]
        if not shape.keys() >= _LINEAR:
            raise ValueError(f"the decision on {decision.unit} gives {place} a rank, which has no weight to adapt")
        if decision.method == "core":
            if rank > min(shape["in_features"], shape["out_features"]):
                raise ValueError(f"the decision on {decision.unit} gives {place} a core larger than its weight")
            params += rank * rank
            continue
        width = shape["in_features"] + shape["out_features"]
        params += rank * width * (shape["experts"] if shape.keys() >= _EXPERTS else 1)
    return params


def _check_cost(cost: Cost, of: str) -> None:
    amounts = {"params": cost.params, "flops": cost.flops, "memory": cost.memory, "latency": cost.latency}
    at_least(0, amounts, of)
