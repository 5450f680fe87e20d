"""What a strategy has to decide: candidates, limits and options, posed from a profile."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import attrs
from attrs import field, frozen

from layerlens_core import tracing
from layerlens_core.allocation.budget import Budget, readable, spell
from layerlens_core.errors import BudgetError, PlanError, nearest
from layerlens_core.plugin.contract import Select, check_decisions
from layerlens_core.plugin.providers import MethodProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import CandidateSet, Method, build_unit
from layerlens_core.values.costs import Limits, References, Training, depth_costs
from layerlens_core.values.decisions import Certificate, Decision, Selection
from layerlens_core.values.inventory import Layer
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import Normalizer, RawScores, Utilities, aggregate


@frozen(kw_only=True)
class Context:
    """What a strategy may know beside candidates and limits: its options, as the user typed them."""

    options: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class Problem:
    """Everything that a decision follows from. penalties: of all methods but ``none``."""

    candidates: CandidateSet
    limits: Limits
    context: Context
    utilities: Utilities
    penalties: Mapping[str, float]
    training: Training
    strategy: str
    select: Select

    def decide(self, candidates: CandidateSet | None = None, limits: Limits | None = None) -> tuple[Decision, ...]:
        """The strategy's decisions, held to its contract; with other candidates or limits where they are given."""
        return self.solve(candidates, limits)[0]

    def solve(
        self, candidates: CandidateSet | None = None, limits: Limits | None = None
    ) -> tuple[tuple[Decision, ...], Certificate | None]:
        """As `decide`, with the strategy's certificate where it gives one."""
        units, bounds = candidates or self.candidates, limits or self.limits
        selected = self.select(units, bounds, self.context)
        certificate = selected.certificate if isinstance(selected, Selection) else None
        return check_decisions(selected, units, bounds, self.strategy), certificate


def pose(
    profile: Profile,
    *,
    strategy: str,
    budget: Budget,
    weights: Mapping[str, float] | None,
    normalizer: Normalizer,
    aggregator: str,
    methods: Iterable[str] | None,
    options: Mapping[str, object],
    penalties: Mapping[str, float],
    training: Training,
    registry: Registry,
) -> Problem:
    """Utilities, candidates and limits from a profile; see `layerlens_core.allocate` for the arguments."""
    given = _check_options(strategy, options, registry)
    utilities = aggregate(
        profile.scores,
        profile.inventory,
        weights=weights,
        normalizer=normalizer,
        combine=registry.load("aggregator", aggregator),
        aggregator=aggregator,
    )
    tracing.utilities_computed(utilities)
    chosen = _load_methods(registry, methods)
    charged = _check_penalties(penalties, chosen, registry)
    if training.dtype is None:
        training = attrs.evolve(training, dtype=str(profile.settings.get("dtype", "float32")))
    candidates = build_candidates(profile, utilities, chosen, registry, training=training, penalties=charged)
    _check_places(candidates, profile, methods)
    tracing.candidates_built(candidates)
    adapted = profile.activations.adapted if profile.activations else {}
    limits = budget.resolve(
        References(inventory=profile.inventory, training=training, depths=candidates.depths, adapted=adapted)
    )
    free = {name for name, method in chosen.items() if name == "none" or (method.updates_weights and training.merged)}
    unmeasured = sorted(set(chosen) - set(profile.latency) - free)
    if limits.latency is not None and unmeasured:
        raise BudgetError(
            f"the budget bounds latency, but that of {', '.join(unmeasured)} was not measured; profile with --latency "
            "(latency=True)"
        )
    _check_affordable(candidates, limits, budget)
    return Problem(
        candidates=candidates,
        limits=limits,
        context=Context(options=given),
        utilities=utilities,
        penalties=charged,
        training=training,
        strategy=strategy,
        select=registry.load("strategy", strategy),
    )


def build_candidates(
    profile: Profile,
    utilities: Utilities,
    methods: Mapping[str, Method],
    registry: Registry,
    *,
    training: Training,
    penalties: Mapping[str, float],
) -> CandidateSet:
    """Every method at every size for every scored layer; modules without a score are no targets."""
    excluded = frozenset(skipped.name for skipped in profile.unscored)
    importance = _module_importance(profile, utilities, registry)
    kept = profile.activations.adapted if profile.activations else {}
    spectra = {s.module: s.spectrum for s in profile.statistics if s.spectrum}
    units = tuple(
        build_unit(
            layer,
            utilities.of(layer.name),
            methods,
            training=training,
            penalties=penalties,
            latency=profile.latency,
            kept_inputs=kept.get(layer.name, 0.0),
            spectrum=_coverage_by_rank(layer, spectra),
            excluded=excluded,
            importance={m.name: importance.get(m.name, 0.0) for m in layer.modules},
            depth=depth,
        )
        for depth, layer in enumerate(profile.inventory.layers)
        if layer.name in utilities.units
    )
    return CandidateSet(
        units=units, methods=tuple(methods), depths=depth_costs(profile.inventory, training, profile.activations)
    )


def _check_places(candidates: CandidateSet, profile: Profile, asked: Iterable[str] | None) -> None:
    """Raises `PlanError` for a method that was asked for by name and that no layer has a place for."""
    for method in asked or ():
        if method != "none" and not any(unit.offers(method) for unit in candidates.units):
            raise PlanError(
                f"no layer of {profile.inventory.architecture} has a place where {method} could attach; "
                "leave it out of --methods"
            )


def _check_penalties(
    penalties: Mapping[str, float], methods: Mapping[str, Method], registry: Registry
) -> dict[str, float]:
    """The penalty of every method that is chosen from. Raises `PlanError` for unknown methods and wrong numbers."""
    known = registry.names("method")
    for name, penalty in penalties.items():
        if name not in known:
            raise PlanError(
                f"a penalty is given for the method {name!r}, but there are: {', '.join(known)}.{nearest(name, known)}"
            )
        if not math.isfinite(penalty) or penalty <= 0:
            raise PlanError(f"the penalty of {name} is {penalty:g}; penalties are finite and above 0")
    return {name: float(penalties.get(name, method.penalty)) for name, method in methods.items() if name != "none"}


def _check_affordable(candidates: CandidateSet, limits: Limits, budget: Budget) -> None:
    """Raises `BudgetError` where no candidate at all fits, with the least that would do."""
    costs = [
        candidates.base(unit.depth) + candidate.cost
        for unit in candidates.units
        for candidate in unit.candidates
        if candidate.cost.params > 0
    ]
    if not costs or any(cost.within(limits) for cost in costs):
        return
    alone = [name for name in limits.bounds if all(name in cost.exceeded(limits) for cost in costs)]
    cheapest = candidates.cheapest
    for name in alone:
        least = min(getattr(cost, name) for cost in costs)
        if name == "params" and cheapest is not None:
            raise BudgetError(
                f"budget {budget} allows {limits.params:,} trainable parameters, but the cheapest candidate, "
                f"{cheapest}, takes {cheapest.parameters:,}; give at least params={cheapest.parameters}"
            )
        raise BudgetError(
            f"budget {budget} allows {readable(name, limits.bounds[name])} of {name}, but the cheapest plan that "
            f"trains anything takes {readable(name, least)}; give at least {name}={spell(name, least)}"
        )
    raise BudgetError(
        f"no plan that trains anything meets {budget} together, though one meets each alone; "
        f"the cheapest in parameters, {cheapest}, would need "
        + " ".join(f"{name}={spell(name, getattr(min(costs, key=lambda c: c.params), name))}" for name in limits.bounds)
    )


def _coverage_by_rank(layer: Layer, spectra: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """By rank from 1 on: Σ of the leading singular values of the layer's mean gradients over Σ of all.

    Concave, as singular values descend. Empty where no spectrum was profiled.
    """
    known = [spectra[module.name] for module in layer.modules if module.name in spectra]
    total = math.fsum(value for spectrum in known for value in spectrum)
    if total <= 0:
        return ()
    ranks = max(len(spectrum) for spectrum in known) - 1  # the last entry is the sum of the values left out
    by_rank = [math.fsum(s[rank] for s in known if rank < len(s) - 1) / total for rank in range(ranks)]
    return tuple(min(share, 1.0) for share in accumulate(by_rank))


def _check_options(strategy: str, options: Mapping[str, object], registry: Registry) -> dict[str, str]:
    """The strategy's options as texts. Raises `PlanError` for one that it does not take."""
    known = registry.get("strategy", strategy).options
    for name in options:
        if name not in known:
            taken = ", ".join(known) or "none"
            raise PlanError(f"strategy {strategy!r} has no option {name!r}; it takes: {taken}.{nearest(name, known)}")
    return {name: str(value) for name, value in options.items()}


def _load_methods(registry: Registry, names: Iterable[str] | None) -> dict[str, Method]:
    """Methods by name in ascending capacity, ``none`` among them."""
    if names is None:
        providers = registry.providers("method").values()
        chosen = [p.name for p in providers if isinstance(p, MethodProvider) and p.applicable and p.default]
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
