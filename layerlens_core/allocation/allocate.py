"""From a profile to a plan: utilities, candidates, a strategy's decisions, checked against the budget."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from layerlens_core import tracing
from layerlens_core.allocation.budget import Budget
from layerlens_core.allocation.build import possible
from layerlens_core.allocation.gains import curves_for, told_of_gains
from layerlens_core.allocation.margins import lacks_margins, too_many, with_margins
from layerlens_core.allocation.notes.smaller_batch import smaller_batch
from layerlens_core.allocation.notes.unused import unused
from layerlens_core.allocation.problem import Problem, pose
from layerlens_core.errors import PlanError
from layerlens_core.plugin.discovery import OURS
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.decisions import Decision, Selection
from layerlens_core.values.gains import GainCurve
from layerlens_core.values.plan import CORE, Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import DEFAULT_SCALE, Request
from layerlens_core.values.scores import Granularity, Normalizer

#: The one that the evidence supports (docs/evidence.md).
DEFAULT_STRATEGY = "tempered"
DEFAULT_BUDGET = Budget(params="r=8")


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
    granularity: Granularity | None = None,
    abstain: bool | None = None,
    gains: Mapping[str, GainCurve | tuple[float, float]] | str | Path | None = None,
    margins: bool | None = None,
    min_rank: int | None = None,
    max_rank: int | None = None,
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
    granularity: whose utilities LoRA's ranks follow, modules' or layers'; by default the finest that there is.
    abstain: whether the plan is uniform where the profile supports nothing else
        (`layerlens_core.allocation.abstention`); by default where the strategy says so of itself, as ``tempered`` does.
    gains: the directory of a run whose comparison measured how much every method gains; or by method curves
        (`layerlens_core.allocation.gains.fit`), or ceilings and halves. None keeps the curves that methods come with.
    margins: find for every layer the smallest change of its utility that would give it another method, deciding anew
        some twenty times a layer; by default where few candidates and one bound meet a strategy of LayerLens's own.
    min_rank: of LoRA and cores where a module is trained, or what its layer has room for; by default 1.
    max_rank: no module gets a larger one. By default 64 of LoRA, 128 of cores, which stay within their subspaces.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises `ScoreError` (weights), `BudgetError` (below the cheapest candidate), `PluginError` (unknown names, a failing
    provider), `PlanError` (a broken contract, gains that lack a method) and `FileError` (a run without measured gains).
    """
    registry = default() if registry is None else registry
    chosen = None if methods is None else names_in(methods)
    request = Request(
        strategy=strategy,
        budget=tuple(Budget.of(budget).texts()),
        weights=weights,
        normalizer=normalizer,
        aggregator=aggregator,
        methods=chosen,
        options={name: str(value) for name, value in (options or {}).items()},
        penalties=penalties or {},
        training=training or Training(),
        scale=scale,
        granularity=granularity,
        abstain=abstain,
        gains=curves_for(gains or {}, chosen, registry),
        margins=margins,
        min_rank=min_rank,
        max_rank=max_rank,
    )
    return plan_for(profile, request, registry=registry)


def names_in(given: str | Iterable[str]) -> tuple[str, ...]:
    """Names that are given one by one, or in one text with commas between them."""
    return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)


def plan_for(profile: Profile, request: Request, *, registry: Registry | None = None) -> Plan:
    """The plan that follows from a profile and a request; see `allocate`.

    profile: from `layerlens_core.profile`, or `Profile.load`.
    request: what is asked of the plan. That of a plan gives the same plan again.
    registry: as in `allocate`.
    """
    registry = default() if registry is None else registry
    if CORE in (request.methods or ()) and profile.subspace is None:
        raise PlanError(
            "cores need subspaces to lie in, and the profile holds none; profile with --warm-up 10% (better) or "
            "--directions, or leave core out of --methods"
        )
    problem = pose(profile, request, registry)
    selection = problem.solve()
    decisions = tuple(selection.decisions)
    cost = problem.candidates.total(decisions)
    if request.margins is None:
        decisions = _with_quick_margins(
            problem, decisions, registry.plugin_of("strategy", request.strategy).distribution
        )
    elif request.margins:
        decisions = with_margins(problem.decide, problem.candidates, problem.limits, decisions)
    decisions = _with_unscored(decisions, profile)
    for method, curve in sorted(problem.request.gains.items()):  # as a file has them
        tracing.gain_measured(method, curve)
    for decision in decisions:
        tracing.decision_made(decision)
    tracing.budget_settled(" ".join(request.budget) or "unlimited", problem.limits, cost)
    plan = Plan(
        profile=profile.digest,
        architecture=profile.inventory.architecture,
        fingerprint=profile.inventory.fingerprint,
        shapes=profile.inventory.shapes,
        task=profile.task,
        request=problem.request,
        limits=problem.limits,
        cost=cost,
        decisions=decisions,
        certificate=selection.certificate,
        heads=profile.inventory.heads,
        directions=profile.directions,
        subspace=profile.subspace.digest
        if profile.subspace is not None and any(decision.method == CORE for decision in decisions)
        else None,
        abstained=problem.abstained,
        notes=(
            *selection.notes,
            *smaller_batch(problem, profile, selection.decisions),
            *unused(problem.candidates, problem.limits, selection.decisions, cost, _room(profile, selection, registry)),
            *told_of_gains(problem.request, problem.candidates, registry),
        ),
    )
    plan.check()  # what is written has to be readable again
    tracing.plan_made(plan)
    return plan


def _room(profile: Profile, selection: Selection, registry: Registry) -> dict[str, int]:
    """By unit, the largest size of its method that ``max_rank`` could allow; of methods of ranks, but for cores."""
    layers = {layer.name: layer for layer in profile.inventory.layers}
    found = {}
    for decision in selection.decisions:
        if decision.method not in ("none", CORE):
            method = registry.load("method", decision.method)
            if method.updates_weights:
                found[decision.unit] = possible(method, layers[decision.unit])
    return found


def _with_quick_margins(problem: Problem, decisions: tuple[Decision, ...], origin: str) -> tuple[Decision, ...]:
    """The decisions with margins, all of them or none; the trace says why there are none.

    Whether there are any must not depend on how fast a machine is: the same inputs give the same plan.

    problem: that was solved.
    decisions: as they were made.
    origin: the distribution that the strategy is of.
    """
    if not lacks_margins(decisions):
        return decisions
    cause = too_many(problem.candidates, problem.limits)
    if cause is None and origin != OURS:
        cause = f"a strategy of {origin} may take any time to decide anew"
    if cause is None:
        return with_margins(problem.decide, problem.candidates, problem.limits, decisions)
    tracing.margins_left_out(cause)
    return decisions


def _with_unscored(decisions: Sequence[Decision], profile: Profile) -> tuple[Decision, ...]:
    """Decisions for all layers of the model: those without a score stay frozen, with the reason."""
    decided = {decision.unit: decision for decision in decisions}
    reasons = _unscored_reasons(profile)
    return tuple(
        decided.get(layer.name)
        or Decision(
            unit=layer.name,
            method="none",
            size=0,
            utility=0.0,
            cost=Cost(),
            reason="no module of this layer was scored: "
            + ("; ".join(sorted(reasons[layer.name])) or "it has no linear module"),
        )
        for layer in profile.inventory.layers
    )


def _unscored_reasons(profile: Profile) -> dict[str, set[str]]:
    """By layer, why modules of it, or the layer itself, were not scored."""
    reasons: dict[str, set[str]] = {layer.name: set() for layer in profile.inventory.layers}
    for skipped in profile.unscored:
        name = skipped.name
        while name:  # of the module, and of all that it lies in
            if name in reasons:
                reasons[name].add(skipped.reason)
            name = name.rpartition(".")[0]
    return reasons
