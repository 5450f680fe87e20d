"""What a strategy has to decide: candidates, limits and options, posed from a profile and a request."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.abstention import abstention
from layerlens_core.allocation.budget import Budget, References, readable, spell
from layerlens_core.allocation.build import build_candidates
from layerlens_core.allocation.utilities import aggregate
from layerlens_core.errors import BudgetError, PlanError, ScoreError, nearest
from layerlens_core.plugin.contract import check_decisions
from layerlens_core.plugin.protocols import Context, Method, Select
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Limits, Training
from layerlens_core.values.decisions import Decision, Selection
from layerlens_core.values.plan import CORE
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.scores import Granularity, Utilities

#: The metric that a warm-up gives besides its subspaces.
BESIDE_WARM_UP = "loss_change"
#: The strategy of a plan that abstains.
UNIFORM = "uniform"


@frozen(kw_only=True)
class Problem:
    """What a strategy has to decide, and everything that its decisions follow from.

    request: as it was resolved: a weight for every metric, a penalty for every method but ``none``.
    candidates: of every scored layer.
    limits: on the plan's cost.
    utilities: of every scored layer.
    select: the strategy; ``uniform`` where the plan abstains.
    abstained: why it does; None where it does not.
    """

    request: Request
    candidates: CandidateSet
    limits: Limits
    utilities: Utilities
    select: Select
    abstained: str | None = None

    def decide(self, candidates: CandidateSet | None = None, limits: Limits | None = None) -> tuple[Decision, ...]:
        """The strategy's decisions, held to its contract.

        candidates: in place of the problem's own.
        limits: in place of the problem's own.
        """
        return self.solve(candidates, limits).decisions

    def trial(self, unit: str) -> Callable[[CandidateSet, Limits], Sequence[Decision]]:
        """Decides like `decide`, for looking at one unit alone: the strategy may leave the others out.

        unit: its name.
        """
        context = attrs.evolve(self._context, only=unit)

        def decide(candidates: CandidateSet, limits: Limits) -> Sequence[Decision]:
            return [each for each in self.select(candidates, limits, context) if each.unit == unit]

        return decide

    def solve(self, candidates: CandidateSet | None = None, limits: Limits | None = None) -> Selection:
        """As `decide`, with the strategy's certificate and notes where it gives any."""
        units, bounds = candidates or self.candidates, limits or self.limits
        selected = self.select(units, bounds, self._context)
        checked = check_decisions(selected, units, bounds, UNIFORM if self.abstained else self.request.strategy)
        if self.abstained:
            checked = tuple(
                attrs.evolve(each, reason=f"abstained, as {self.abstained}: {each.reason}") for each in checked
            )
        if isinstance(selected, Selection):
            return attrs.evolve(selected, decisions=checked)
        return Selection(decisions=checked)

    @property
    def _context(self) -> Context:
        assert self.request.granularity is not None  # `pose` resolved it
        rank = Budget.parse(self.request.budget).rank
        return Context(options=self.request.options, granularity=self.request.granularity, rank=rank)


def pose(profile: Profile, request: Request, registry: Registry | None = None) -> Problem:
    """Utilities, candidates and limits of a request; a plan's own request poses the problem that the plan solves.

    profile: what was measured.
    request: what is asked of the plan.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises what `layerlens_core.allocate` raises.
    """
    registry = default() if registry is None else registry
    _check_options(request, registry)
    _check_ranks(request)
    granularity = _granularity(request, registry)
    utilities = aggregate(
        profile.scores,
        profile.inventory,
        weights=request.weights if request.weights is not None else _usual_weights(profile),
        normalizer=request.normalizer,
        combine=registry.load("aggregator", request.aggregator),
        aggregator=request.aggregator,
    )
    if not utilities.units:  # strategies need not think of it
        raise ScoreError("no layer has a score, so there is nothing to decide")
    methods = load_methods(registry, _methods_for(profile, request))
    training = request.training
    if training.dtype is None:
        training = attrs.evolve(training, dtype=str(profile.settings.get("dtype", "float32")))
    resolved = attrs.evolve(
        request,
        weights=utilities.weights,
        methods=tuple(methods),
        penalties=_penalties(request.penalties, methods, registry),
        training=training,
        granularity=granularity,
        abstain=registry.get("strategy", request.strategy).abstains if request.abstain is None else request.abstain,
    )
    candidates = build_candidates(profile, utilities, methods, resolved, registry)
    _check_places(candidates, profile, request.methods)
    if request.methods is None and (nowhere := set(methods) - {"none", *candidates.table.methods}):
        # Nobody asked for these, so that the plan's request, which names its methods, does not either.
        named = tuple(name for name in methods if name not in nowhere)
        if len(named) > 1:
            return pose(profile, attrs.evolve(request, methods=named), registry)
    tracing.utilities_computed(utilities)
    tracing.candidates_built(candidates)
    adapted = profile.activations.adapted if profile.activations else {}
    budget = Budget.parse(request.budget)
    limits = budget.resolve(
        References(inventory=profile.inventory, training=training, depths=candidates.depths, adapted=adapted)
    )
    _check_measured(limits, methods, profile, training)
    _check_affordable(candidates, limits, budget)
    problem = Problem(
        request=resolved,
        candidates=candidates,
        limits=limits,
        utilities=utilities,
        select=registry.load("strategy", request.strategy),
    )
    if not resolved.abstain or request.strategy == UNIFORM:
        return problem
    cause = abstention(profile, utilities.weights, candidates, granularity)
    if cause is None:
        return problem
    with tracing.silenced():
        problem.solve()  # what is wrong with its options is told all the same
    return attrs.evolve(problem, select=registry.load("strategy", UNIFORM), abstained=cause)


def _usual_weights(profile: Profile) -> dict[str, float] | None:
    """Weights where none are given: all metrics alike, but for what comes along with a warm-up for cores."""
    names = [each.metric for each in profile.scores]
    if profile.warm_up is None or len(names) < 2:
        return None
    return {name: float(name != BESIDE_WARM_UP) for name in names}


def _methods_for(profile: Profile, request: Request) -> tuple[str, ...] | None:
    """The methods that were asked for; where none was, cores too if the parameters are below LoRA's first rank.

    Below it LoRA can only leave modules out, which costs more than cores do (docs/evidence.md).
    """
    below = Budget.parse(request.budget).below_rank_one(profile.inventory)
    if request.methods is not None or request.gains or profile.subspace is None or not below:
        return request.methods
    return ("none", CORE, "lora")


def _check_measured(limits: Limits, methods: Mapping[str, Method], profile: Profile, training: Training) -> None:
    """Raises `BudgetError` where latency is bounded and a method's was not measured."""
    free = {name for name, method in methods.items() if name == "none" or (method.updates_weights and training.merged)}
    unmeasured = sorted(set(methods) - set(profile.latency) - free)
    if limits.latency is not None and unmeasured:
        raise BudgetError(
            f"the budget bounds latency, but that of {', '.join(unmeasured)} was not measured; profile with --latency "
            "(latency=True)"
        )


def _check_places(candidates: CandidateSet, profile: Profile, asked: Iterable[str] | None) -> None:
    """Raises `PlanError` for a method that was asked for by name and that can attach in no layer."""
    for method in asked or ():
        if method != "none" and method not in candidates.table.methods:
            raise PlanError(
                f"no layer of {profile.inventory.architecture} has a place where {method} could attach; "
                "leave it out of --methods"
            )


def _penalties(penalties: Mapping[str, float], methods: Mapping[str, Method], registry: Registry) -> dict[str, float]:
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
    """Raises `BudgetError`, with the least that a bound would have to be, where no candidate at all fits."""
    import numpy

    table = candidates.table
    paid = numpy.flatnonzero(table.amounts["params"] > 0)
    if not len(paid):
        return
    totals = {}
    exceeded = {}
    for name in limits.bounds:
        bases = numpy.array([getattr(candidates.base(unit.depth), name) for unit in candidates.units])
        totals[name] = bases[table.unit[paid]] + table.amounts[name][paid]
        exceeded[name] = totals[name] > limits.most(name)
    if not numpy.logical_or.reduce([numpy.zeros(len(paid), dtype=bool), *exceeded.values()]).all():
        return
    cheapest = candidates.cheapest
    assert cheapest is not None  # some are paid for
    for name in (name for name, over in exceeded.items() if over.all()):
        if name == "params":
            raise BudgetError(
                f"budget {budget} allows {limits.params:,} trainable parameters, but the cheapest candidate, "
                f"{cheapest}, takes {cheapest.parameters:,}; give at least params={cheapest.parameters}"
            )
        least = float(totals[name].min())
        raise BudgetError(
            f"budget {budget} allows {readable(name, limits.bounds[name])} of {name}, but the cheapest plan that "
            f"trains anything takes {readable(name, least)}; give at least {name}={spell(name, least)}"
        )
    first = int(table.amounts["params"][paid].argmin())
    raise BudgetError(
        f"no plan that trains anything meets {budget} together, though one meets each alone; "
        f"the cheapest in parameters, {cheapest}, would need "
        + " ".join(f"{name}={spell(name, total[first].item())}" for name, total in totals.items())
    )


def _check_ranks(request: Request) -> None:
    """Raises `PlanError` for ranks, or a scale, that nothing can have."""
    for name, value in (("min_rank", request.min_rank), ("max_rank", request.max_rank), ("scale", request.scale)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise PlanError(f"{name} is a whole number of at least 1, not {value!r}")
    if request.min_rank is not None and request.max_rank is not None and request.min_rank > request.max_rank:
        raise PlanError(f"min_rank={request.min_rank} is above max_rank={request.max_rank}")


def _check_options(request: Request, registry: Registry) -> None:
    """Raises `PlanError` for an option that the strategy does not take."""
    known = registry.get("strategy", request.strategy).options
    for name in request.options:
        if name not in known:
            taken = ", ".join(known) or "none"
            raise PlanError(
                f"strategy {request.strategy!r} has no option {name!r}; it takes: {taken}.{nearest(name, known)}"
            )


def _granularity(request: Request, registry: Registry) -> Granularity:
    """What was asked for, or else the strategy's first. Raises `PlanError` for what the strategy cannot do."""
    known = registry.get("strategy", request.strategy).granularities
    if request.granularity is None:
        return known[0]
    if request.granularity not in known:
        raise PlanError(
            f"strategy {request.strategy!r} decides by {' or '.join(known)}, not by {request.granularity!r}; use "
            "another strategy, such as tempered, or leave granularity out"
        )
    return request.granularity


def load_methods(registry: Registry, names: Iterable[str] | None) -> dict[str, Method]:
    """Methods by name in ascending capacity, ``none`` among them.

    registry: of providers.
    names: of the methods; None takes those that are chosen from by default.

    Raises `PluginError` for a name that nothing has, and `PlanError` where there is none but ``none``.
    """
    if names is None:
        providers = registry.providers("method").values()
        chosen = [p.name for p in providers if p.applicable and p.default]
    else:
        chosen = list(names)
    ordered = sorted({*chosen, "none"}, key=lambda name: (registry.get("method", name).capacity, name))
    if ordered == ["none"]:
        raise PlanError("the only method is 'none'; name at least one that trains something, such as lora")
    return {name: registry.load("method", name) for name in ordered}
