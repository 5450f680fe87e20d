"""Every candidate of every layer: method × size, with its exact cost and its predicted gain."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import attrs
from attrs import field, frozen

from layerlens_core.allocation.flops import depth_costs
from layerlens_core.allocation.utilities import aggregate
from layerlens_core.plugin.protocols import Method
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import Candidate, CandidateSet, Target, Unit
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.inventory import Layer
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.scores import RawScores, Utilities


@frozen(kw_only=True)
class Terms:
    """What gains and costs are computed from, alike in all layers.

    training: the step that FLOPs and memory are counted for.
    penalties: by method, in place of the methods' own; gains are divided by them.
    latency: by method, seconds of any size and of each step of size, at one target.
    """

    training: Training = field(factory=Training)
    penalties: Mapping[str, float] = field(factory=dict)
    latency: Mapping[str, tuple[float, float]] = field(factory=dict)


@frozen(kw_only=True)
class Findings:
    """What is known of one layer beside its utility.

    depth: its place in the model, 0 for the lowest.
    kept_inputs: bytes a token that the inputs of all linear modules take, which LoRA keeps.
    excluded: modules that were not scored and therefore are no targets.
    importance: the share of each module in the layer's score.
    spectrum: by rank, the share of the layer's mean gradient that LoRA of that rank can follow, in place of the assumed
        coverage.
    """

    depth: int = 0
    kept_inputs: float = 0.0
    excluded: frozenset[str] = frozenset()
    importance: Mapping[str, float] = field(factory=dict)
    spectrum: Sequence[float] = ()


def build_candidates(
    profile: Profile, utilities: Utilities, methods: Mapping[str, Method], request: Request, registry: Registry
) -> CandidateSet:
    """Every method at every size for every scored layer; modules without a score are no targets.

    profile: what was measured.
    utilities: of the layers.
    methods: by name, in ascending capacity.
    request: resolved, with the training step's dtype and a penalty for every method but ``none``.
    registry: for the aggregator of the modules' own utilities.
    """
    terms = Terms(training=request.training, penalties=request.penalties, latency=profile.latency)
    excluded = frozenset(skipped.name for skipped in profile.unscored)
    importance = _module_importance(profile, utilities, registry)
    kept = profile.activations.adapted if profile.activations else {}
    spectra = {s.module: s.spectrum for s in profile.statistics if s.spectrum}
    units = []
    for depth, layer in enumerate(profile.inventory.layers):
        if layer.name in utilities.units:
            findings = Findings(
                depth=depth,
                kept_inputs=kept.get(layer.name, 0.0),
                excluded=excluded,
                importance={m.name: importance.get(m.name, 0.0) for m in layer.modules},
                spectrum=_coverage_by_rank(layer, spectra),
            )
            units.append(build_unit(layer, utilities.utility_of(layer.name), methods, terms, findings))
    depths = depth_costs(profile.inventory, request.training, profile.activations)
    return CandidateSet(units=tuple(units), methods=tuple(methods), depths=depths)


def coverage(method: Method, size: int) -> float:
    """The share of a unit's gain that a size reaches: ceiling · n / (n + half) at n notches.

    It is concave, 0 at size 0, and stays below the method's ceiling: an assumption, and called so.

    method: with its notch, ceiling and half.
    size: rank, bottleneck width or prefix length.
    """
    notches = size / method.notch
    return method.ceiling * notches / (notches + method.half)


def build_unit(
    layer: Layer,
    utility: float,
    methods: Mapping[str, Method],
    terms: Terms | None = None,
    findings: Findings | None = None,
) -> Unit:
    """All candidates of a layer.

    layer: of the inventory.
    utility: of the layer.
    methods: by name, in ascending capacity.
    terms: what gains and costs are computed from.
    findings: what is known of the layer beside its utility.
    """
    terms, findings = terms or Terms(), findings or Findings()
    targets: dict[str, tuple[Target, ...]] = {}
    candidates: list[Candidate] = []
    for name, method in methods.items():
        if name == "none":
            candidates.append(Candidate(method=name, size=0, cost=Cost(), gain=0.0))
            targets[name] = ()
        elif places := _places(layer, name, method, terms, findings):
            targets[name] = places
            largest = method.largest(layer)
            candidates += _sizes(name, method, places, largest, utility, terms, findings.spectrum)
    return Unit(
        name=layer.name,
        utility=utility,
        candidates=tuple(candidates),
        targets=targets,
        notches={name: method.notch for name, method in methods.items() if name in targets},
        importance=findings.importance,
        depth=findings.depth,
        training=terms.training,
    )


def _places(layer: Layer, name: str, method: Method, terms: Terms, findings: Findings) -> tuple[Target, ...]:
    """Where a method attaches in a layer, with the costs there that only profiling knows."""
    places = tuple(target for target in method.targets(layer) if target.name not in findings.excluded)
    if method.updates_weights:
        places = tuple(attrs.evolve(place, kept_bytes=findings.kept_inputs / len(places)) for place in places)
    fixed, per_size = terms.latency.get(name, (0.0, 0.0))
    if not (method.updates_weights and terms.training.merged):
        places = tuple(attrs.evolve(place, seconds_fixed=fixed, seconds=per_size) for place in places)
    return places


def _sizes(
    name: str,
    method: Method,
    places: Sequence[Target],
    largest: int,
    utility: float,
    terms: Terms,
    spectrum: Sequence[float],
) -> Iterator[Candidate]:
    """A method's candidates, in ascending size."""
    penalty = terms.penalties.get(name, method.penalty)
    # Costs are linear in size from size 1 on.
    first, second = (sum((place.cost(size, terms.training) for place in places), Cost()) for size in (1, 2))
    for size in range(method.notch, largest + 1, method.notch):
        profiled = method.updates_weights and size <= len(spectrum)
        covered = spectrum[size - 1] if profiled else coverage(method, size)
        yield Candidate(
            method=name,
            size=size,
            cost=first + (second - first).times(size - 1),
            gain=utility * covered / penalty,
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
