"""From a profile to a plan: utilities, candidates, a strategy's decisions, checked against the budget."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from layerlens_core import registry as registries
from layerlens_core import tracing
from layerlens_core.budget import Budget, Limits
from layerlens_core.candidates import CandidateSet, Method, Unit, build_unit
from layerlens_core.decisions import Decision
from layerlens_core.errors import BudgetError, PlanError, ScoreError, nearest
from layerlens_core.plan import DEFAULT_SCALE, Plan
from layerlens_core.profiles import Profile
from layerlens_core.registry import Registry
from layerlens_core.scores import Normalizer, RawScores, Utilities, aggregate

DEFAULT_STRATEGY = "threshold"
DEFAULT_BUDGET = Budget(params="r=8")


@frozen(kw_only=True)
class Context:
    """What a strategy may know beside candidates and limits: its options, as the user typed them."""

    options: Mapping[str, str] = field(factory=dict)


def allocate(
    profile: Profile,
    *,
    strategy: str = DEFAULT_STRATEGY,
    budget: Budget = DEFAULT_BUDGET,
    weights: Mapping[str, float] | None = None,
    normalizer: Normalizer = "share",
    aggregator: str = "weighted-mean",
    methods: Iterable[str] | None = None,
    options: Mapping[str, Any] | None = None,
    scale: int = DEFAULT_SCALE,
    registry: Registry | None = None,
) -> Plan:
    """Decide a method and a size for every layer of a profiled model.

    profile: from `layerlens_core.profile`, or `Profile.load`. strategy, aggregator: names of providers.
    budget: hard bounds. weights: one for each profiled metric; None weighs them alike.
    methods: names of methods to choose from; None takes those that `apply` can build. ``none`` is always one.
    options: of the strategy. scale: α/r of every LoRA module.

    Raises `ScoreError` (weights), `BudgetError` (a budget below the cheapest candidate), `PluginError`
    (unknown names) and `PlanError` (a strategy that breaks its contract).
    """
    known = registry if registry is not None else registries.default()
    provider = known.get("strategy", strategy)
    given = {name: str(value) for name, value in (options or {}).items()}
    for name in given:
        if name not in provider.options:
            taken = ", ".join(provider.options) or "none"
            raise PlanError(
                f"strategy {strategy!r} has no option {name!r}; it takes: {taken}.{nearest(name, provider.options)}"
            )
    utilities = aggregate(
        profile.scores,
        profile.inventory,
        weights=weights,
        normalizer=normalizer,
        combine=known.load("aggregator", aggregator),
        aggregator=aggregator,
    )
    tracing.utilities_computed(utilities)
    candidates = build_candidates(profile, utilities, _load_methods(known, methods), known)
    tracing.candidates_built(candidates)
    limits = budget.resolve(profile.inventory)
    cheapest = candidates.cheapest
    if cheapest is not None and limits.parameters is not None and limits.parameters < cheapest.parameters:
        raise BudgetError(
            f"budget {budget} allows {limits.parameters:,} trainable parameters, but the cheapest candidate, "
            f"{cheapest.method} of size {cheapest.size}, takes {cheapest.parameters:,}; give at least "
            f"params={cheapest.parameters}"
        )
    select = known.load("strategy", strategy)
    decisions = check_decisions(select(candidates, limits, Context(options=given)), candidates, limits, strategy)
    decisions = _with_unscored(decisions, profile)
    for decision in decisions:
        tracing.decision_made(decision)
    spent = sum(decision.parameters for decision in decisions)
    tracing.budget_settled(str(budget), limits, spent)
    plan = Plan(
        architecture=profile.inventory.architecture,
        fingerprint=profile.inventory.fingerprint,
        task=profile.task,
        strategy=strategy,
        options=given,
        methods=candidates.methods,
        weights=utilities.weights,
        normalizer=normalizer,
        aggregator=aggregator,
        budget=str(budget),
        limit=limits.parameters,
        parameters=spent,
        decisions=decisions,
        heads=profile.inventory.heads,
        scale=scale,
    )
    tracing.plan_made(plan)
    return plan


def build_candidates(
    profile: Profile, utilities: Utilities, methods: Mapping[str, Method], registry: Registry
) -> CandidateSet:
    """Every method at every size for every scored layer; modules without a score are no targets."""
    excluded = frozenset(skipped.name for skipped in profile.unscored)
    importance = _module_importance(profile, utilities, registry)
    layers = {layer.name: layer for layer in profile.inventory.layers}
    units = tuple(
        build_unit(
            layers[name],
            utility,
            methods,
            excluded=excluded,
            importance={m.name: importance.get(m.name, 0.0) for m in layers[name].modules},
        )
        for name, utility in zip(utilities.units, utilities.values, strict=True)
    )
    return CandidateSet(units=units, methods=tuple(methods))


def check_decisions(
    decisions: Sequence[Decision], candidates: CandidateSet, limits: Limits, strategy: str
) -> tuple[Decision, ...]:
    """The decisions in model order, after holding the strategy to its contract.

    Raises `PlanError` where a unit is decided twice or not at all, where a decision is no candidate or its
    parameters are not what its sizes cost, and `BudgetError` where the limits are exceeded.
    """
    by_unit: dict[str, Decision] = {}
    units = {unit.name: unit for unit in candidates.units}
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
    spent = sum(decision.parameters for decision in by_unit.values())
    if limits.parameters is not None and spent > limits.parameters:
        raise BudgetError(
            f"strategy {strategy!r} spent {spent:,} trainable parameters, above the limit of {limits.parameters:,}"
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
    cost = sum(targets[name].parameters(size) for name, size in decision.sizes.items())
    if cost != decision.parameters:
        raise PlanError(f"{where}: its sizes cost {cost:,} parameters, not {decision.parameters:,}")


def _load_methods(registry: Registry, names: Iterable[str] | None) -> dict[str, Method]:
    """Methods by name in ascending capacity, ``none`` among them."""
    if names is None:
        chosen = [name for name, provider in registry.providers("method").items() if provider.applicable]  # type: ignore[union-attr]
    else:
        chosen = list(names)
    ordered = sorted({*chosen, "none"}, key=lambda name: (registry.get("method", name).capacity, name))
    if ordered == ["none"]:
        raise PlanError("the only method is 'none'; name at least one that trains something, such as lora")
    return {name: registry.load("method", name) for name in ordered}


def _module_importance(profile: Profile, utilities: Utilities, registry: Registry) -> dict[str, float]:
    """The modules' own utilities, from the metrics that score modules, with the same weights and normalizer."""
    scores: list[RawScores] = [
        s for s in profile.scores if s.granularity == "module" and utilities.weights[s.metric] > 0
    ]
    if not scores:
        return {}
    modules = aggregate(
        scores,
        profile.inventory,
        weights={s.metric: utilities.weights[s.metric] for s in scores},
        normalizer=utilities.normalizer,
        combine=registry.load("aggregator", utilities.aggregator),
        aggregator=utilities.aggregator,
        granularity="module",
    )
    return dict(zip(modules.units, modules.values, strict=True))


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
            parameters=0,
            reason="no module of this layer was scored: " + _unscored_reason(layer.name, profile),
        )
        for layer in profile.inventory.layers
    )


def _unscored_reason(layer: str, profile: Profile) -> str:
    reasons = {s.reason for s in profile.unscored if s.name == layer or s.name.startswith(f"{layer}.")}
    return "; ".join(sorted(reasons)) or "it has no linear module"
