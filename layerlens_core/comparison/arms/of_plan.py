"""Arms from plans, and plans from arms, so that `apply` trains exactly the arm."""

from attrs import evolve

from layerlens_core.allocation.budget import Budget
from layerlens_core.comparison.arms.budgets import budget_of
from layerlens_core.comparison.arms.case import ground_for
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.comparison import RANDOM, WEIGHTS, Arm
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import CORE, Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request


def arm_of_plan(plan: Plan, name: str, budget: str) -> Arm:
    """The arm that trains what a plan says.

    plan: to train.
    name: of the arm.
    budget: that it was made for, as it is typed.

    Raises `Unfit` for a plan that trains nothing, and for one with cores and no subspaces.
    """
    methods = sorted({decision.method for decision in plan.decisions})
    sizes = {method: found for method in methods if (found := plan.sizes(method))}
    if not sizes:
        raise Unfit("the plan trains nothing: every layer is 'none'")
    if CORE in sizes and plan.subspace is None:
        raise Unfit("the plan has cores, and no subspaces for them; profile with --warm-up 10% or --directions")
    trained = sum(decision.parameters > 0 for decision in plan.decisions)
    return Arm(
        name=name,
        budget=budget,
        sizes=sizes,
        scale=float(plan.scale),
        parameters=plan.parameters,
        memory=plan.cost.memory,
        reason=f"the plan of strategy {plan.request.strategy}: {', '.join(sizes)} in {trained} of "
        f"{len(plan.decisions)} layers",
        subspace=(plan.subspace or "") if CORE in sizes else "",
    )


def plan_of_arm(
    arm: Arm, profile: Profile, *, request: Request | None = None, registry: Registry | None = None
) -> Plan:
    """The plan that trains an arm's sizes, each decision at its exact cost.

    arm: of LoRA, adapters, prefixes or another method that `apply` attaches.
    profile: of the model.
    request: of the plan that the arm was made beside: its weights and training step, for which memory and FLOPs are
        counted. Without one these count for the default step, and the plan is held to the budget's parameters alone.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises `PlanError` for an arm that something else trains, whose places the profile does not have, or whose
    parameters are not what its sizes take, and `BudgetError` for a budget that cannot be read.
    """
    if arm.tuner != "layerlens":
        raise PlanError(f"the arm {arm.key} is trained by {arm.tuner}; no plan says so")
    if not float(arm.scale).is_integer():
        raise PlanError(f"the arm {arm.key} has a scale α/r of {arm.scale:g}; plans have whole ones")
    registry = default() if registry is None else registry
    budget = budget_of(arm.budget)
    if request is None:
        request, budget = Request(strategy=arm.name, budget=()), Budget(params=budget.params)
    ground = ground_for(profile, request, budget.texts(), tuple(arm.sizes), registry)
    decided = {each.unit: each for each in ground.decisions(arm.sizes, f"{arm.key}: {arm.reason}")}
    resolved, inventory = ground.problem.request, profile.inventory
    plan = Plan(
        profile=profile.digest,
        architecture=inventory.architecture,
        fingerprint=inventory.fingerprint,
        shapes=inventory.shapes,
        task=profile.task,
        request=evolve(resolved, strategy=arm.name, scale=int(arm.scale)),
        limits=ground.limits,
        cost=ground.cost(arm.sizes),
        decisions=tuple(decided.get(layer.name) or _unscored(layer.name) for layer in inventory.layers),
        heads=inventory.heads,
        directions=profile.directions,
        subspace=None if arm.subspace in ("", WEIGHTS, RANDOM) else arm.subspace,
    )
    if plan.parameters != arm.parameters:
        raise PlanError(
            f"the arm {arm.key} is for {arm.parameters:,} trainable parameters, but its sizes take {plan.parameters:,}"
        )
    plan.check()
    return plan


def _unscored(layer: str) -> Decision:
    return Decision(
        unit=layer, method="none", size=0, utility=0.0, cost=Cost(), reason="no module of this layer was scored"
    )
