"""From a profile to a plan: utilities, candidates, a strategy's decisions, checked against the budget."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from layerlens_core import tracing
from layerlens_core.allocation.budget import Budget
from layerlens_core.allocation.margins import utility_flip
from layerlens_core.allocation.problem import Problem, pose
from layerlens_core.errors import ScoreError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import DEFAULT_SCALE, Request
from layerlens_core.values.scores import Normalizer

DEFAULT_STRATEGY = "threshold"
DEFAULT_BUDGET = Budget(params="r=8")
#: With at most this many candidates, margins are found without being asked for; that takes less than a second.
MARGINS_UP_TO = 1_000


def allocate(
    profile: Profile,
    *,
    strategy: str = DEFAULT_STRATEGY,
    budget: Budget | str | Iterable[str] = DEFAULT_BUDGET,
    weights: Mapping[str, float] | None = None,
    normalizer: Normalizer = "share",
    aggregator: str = "weighted-mean",
    methods: str | Iterable[str] | None = None,
    options: Mapping[str, Any] | None = None,
    penalties: Mapping[str, float] | None = None,
    training: Training | None = None,
    scale: int = DEFAULT_SCALE,
    margins: bool | None = None,
    registry: Registry | None = None,
) -> Plan:
    """Decide a method and a size for every layer of a profiled model.

    profile: from `layerlens_core.profile`, or `Profile.load`.
    strategy: name of a provider.
    budget: hard bounds; texts such as ``"params=r=8"`` are read by `Budget.parse`.
    weights: one for each profiled metric; None weighs them alike.
    normalizer: makes raw scores comparable: share, max, rank, zscore or log.
    aggregator: name of a provider.
    methods: names of methods to choose from, or one text with commas between them; None takes those that `apply` can
        build. ``none`` is always one.
    options: of the strategy, by name.
    penalties: by method; predicted gains are divided by them.
    training: the step that FLOPs and memory are counted for.
    scale: α/r of every LoRA module.
    margins: find for every layer the smallest change of its utility that would give it another method, by deciding
        anew some twenty times a layer; by default where there are few candidates.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises `ScoreError` (weights), `BudgetError` (a budget below the cheapest candidate), `PluginError`
    (unknown names, or a provider that fails) and `PlanError` (a strategy that breaks its contract).
    """
    request = Request(
        strategy=strategy,
        budget=tuple(Budget.of(budget).texts()),
        weights=weights,
        normalizer=normalizer,
        aggregator=aggregator,
        methods=None if methods is None else names_in(methods),
        options={name: str(value) for name, value in (options or {}).items()},
        penalties=penalties or {},
        training=training or Training(),
        scale=scale,
    )
    return plan_for(profile, request, margins=margins, registry=registry)


def names_in(given: str | Iterable[str]) -> tuple[str, ...]:
    """Names that are given one by one, or in one text with commas between them."""
    return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)


def plan_for(
    profile: Profile, request: Request, *, margins: bool | None = None, registry: Registry | None = None
) -> Plan:
    """The plan that follows from a profile and a request; see `allocate`.

    profile: from `layerlens_core.profile`, or `Profile.load`.
    request: what is asked of the plan.
    margins: as in `allocate`.
    registry: as in `allocate`.
    """
    problem = pose(profile, request, registry)
    decisions, certificate = problem.solve()
    cost = problem.candidates.total(decisions)
    if margins is None:
        margins = sum(len(unit.candidates) for unit in problem.candidates.units) <= MARGINS_UP_TO
    if margins:
        decisions = tuple(_with_margin(problem, decision) for decision in decisions)
    decisions = _with_unscored(decisions, profile)
    for decision in decisions:
        tracing.decision_made(decision)
    tracing.budget_settled(" ".join(request.budget) or "unlimited", problem.limits, cost)
    plan = Plan(
        architecture=profile.inventory.architecture,
        fingerprint=profile.inventory.fingerprint,
        shapes=profile.inventory.shapes,
        task=profile.task,
        request=problem.request,
        limits=problem.limits,
        cost=cost,
        decisions=decisions,
        certificate=certificate,
        heads=profile.inventory.heads,
        directions=profile.directions,
    )
    tracing.plan_made(plan)
    return plan


def _with_margin(problem: Problem, decision: Decision) -> Decision:
    if decision.margin is not None:
        return decision  # the strategy knows it exactly
    flip = utility_flip(problem.decide, problem.candidates, problem.limits, decision)
    if flip is None:
        return decision
    return attrs.evolve(decision, runner_up=flip.becomes, margin=decision.utility * (flip.factor - 1))


def _with_unscored(decisions: Sequence[Decision], profile: Profile) -> tuple[Decision, ...]:
    """Decisions for all layers of the model: those without a score stay frozen, with the reason."""
    decided = {decision.unit: decision for decision in decisions}
    if not decided:
        raise ScoreError("no layer has a score, so there is nothing to decide")
    return tuple(
        decided.get(layer.name)
        or Decision(
            unit=layer.name,
            method="none",
            size=0,
            utility=0.0,
            cost=Cost(),
            reason="no module of this layer was scored: " + _unscored_reason(layer.name, profile),
        )
        for layer in profile.inventory.layers
    )


def _unscored_reason(layer: str, profile: Profile) -> str:
    reasons = {s.reason for s in profile.unscored if s.name == layer or s.name.startswith(f"{layer}.")}
    return "; ".join(sorted(reasons)) or "it has no linear module"
