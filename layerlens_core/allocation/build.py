"""Every candidate of every layer: method × size, with its exact cost and its predicted gain."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import attrs
from attrs import field, frozen

from layerlens_core.allocation.flops import depth_costs
from layerlens_core.allocation.utilities import aggregate
from layerlens_core.errors import PlanError
from layerlens_core.plugin.protocols import Method, Stretching
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import CandidateSet, Target, Unit, cost_of
from layerlens_core.values.columns import Candidates, Offers
from layerlens_core.values.costs import RESOURCES, Cost, Training
from layerlens_core.values.gains import GainCurve
from layerlens_core.values.inventory import Layer
from layerlens_core.values.plan import CORE
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.scores import RawScores, Utilities

if TYPE_CHECKING:
    from layerlens_core.values.columns import Floats

#: Gains are added up over all layers, and multiplied with costs as candidates are compared.
MOST_GAIN = 1e150


@frozen(kw_only=True)
class Terms:
    """What gains and costs are computed from, alike in all layers.

    training: the step that FLOPs and memory are counted for.
    penalties: by method, in place of the methods' own; gains are divided by them.
    latency: by method, seconds of any size and of each step of size, at one target.
    gains: by method, curves in place of the methods' own.
    directions: of the subspaces that cores lie in; None where that does not matter.
    min_rank: the smallest size of methods that update weights; None for their first.
    max_rank: their largest; None for their own.
    """

    training: Training = field(factory=Training)
    penalties: Mapping[str, float] = field(factory=dict)
    latency: Mapping[str, tuple[float, float]] = field(factory=dict)
    gains: Mapping[str, GainCurve] = field(factory=dict)
    directions: int | None = None
    min_rank: int | None = None
    max_rank: int | None = None

    def sizes(self, name: str, method: Method, layer: Layer) -> range:
        """The sizes of a method in a layer: a core is no larger than its subspace.

        Where the smallest rank that was asked for exceeds what the layer has room for, there is that alone.
        """
        notch, largest = method.notch, method.largest(layer)
        smallest = notch
        if method.updates_weights:
            if self.max_rank is not None:
                largest = min(self.max_rank, possible(method, layer))
            if self.min_rank is not None:
                smallest = max(notch, math.ceil(self.min_rank / notch) * notch)
        if name == CORE and self.directions is not None:
            largest = min(largest, self.directions)
        return range(max(notch, min(smallest, largest // notch * notch)), largest + 1, notch)


@frozen(kw_only=True)
class Findings:
    """What is known of one layer beside its utility.

    depth: its place in the model, 0 for the lowest.
    kept_inputs: bytes a token that the inputs of all linear modules take, which LoRA keeps.
    excluded: modules that were not scored and therefore are no targets.
    importance: the modules' own utilities.
    spectrum: by rank, the share of the layer's mean gradient that LoRA of that rank can follow, in place of its curve
        where it is the only method.
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
    terms = Terms(
        training=request.training,
        penalties=request.penalties,
        latency=profile.latency,
        gains=request.gains,
        directions=None if profile.subspace is None else profile.subspace.rank,
        min_rank=request.min_rank,
        max_rank=request.max_rank,
    )
    excluded = frozenset(skipped.name for skipped in profile.unscored)
    importance = _module_importance(profile, utilities, registry)
    kept = profile.activations.adapted if profile.activations else {}
    spectra = {s.module: s.spectrum for s in profile.statistics if s.spectrum}
    utility_of = dict(zip(utilities.units, utilities.values, strict=True))
    builder = Builder(methods, terms)
    units = []
    for depth, layer in enumerate(profile.inventory.layers):
        if layer.name in utility_of:
            findings = Findings(
                depth=depth,
                kept_inputs=kept.get(layer.name, 0.0),
                excluded=excluded,
                importance={m.name: importance.get(m.name, 0.0) for m in layer.modules},
                spectrum=_coverage_by_rank(layer, spectra),
            )
            units.append(builder.unit(layer, utility_of[layer.name], findings))
    depths = depth_costs(profile.inventory, request.training, profile.activations)
    return CandidateSet(units=tuple(units), methods=tuple(methods), depths=depths)


def possible(method: Method, layer: Layer) -> int:
    """The largest size of a method in a layer that may be asked for."""
    return max(method.largest(layer), method.possible(layer) if isinstance(method, Stretching) else 0)


def coverage(method: Method, size: int, measured: GainCurve | None = None) -> float:
    """The share of a unit's gain that a size reaches: ceiling · n / (n + half) at n notches.

    It is concave, 0 at size 0, and stays below the method's ceiling.

    method: with its notch, ceiling and half.
    size: rank, bottleneck width or prefix length.
    measured: its measured curve, in place of its own (`layerlens_core.allocation.gains`).
    """
    notches = size / method.notch
    if measured is not None:
        return measured.at(notches)
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
    return Builder(methods, terms or Terms()).unit(layer, utility, findings or Findings())


class Builder:
    """Builds the units of one model. Layers that offer the same at the same cost share the columns that say so.

    methods: by name, in ascending capacity.
    terms: what gains and costs are computed from.
    """

    def __init__(self, methods: Mapping[str, Method], terms: Terms) -> None:
        self._methods, self._terms = methods, terms
        self._offers: dict[Hashable, Offers] = {}
        self._shares: dict[Hashable, tuple[Floats, Floats]] = {}

    def unit(self, layer: Layer, utility: float, findings: Findings) -> Unit:
        """See `build_unit`."""
        import numpy

        targets: dict[str, tuple[Target, ...]] = {}
        offered: list[_Offered] = []
        for name, method in self._methods.items():
            if name == "none":
                targets[name] = ()
                offered.append(_Offered(name, range(0), Cost(), Cost()))
            elif places := _places(layer, name, method, self._terms, findings):
                targets[name] = places
                # Costs are linear in size from size 1 on, or of the second degree.
                squared = any(place.per_square or place.flops_square for place in places)
                at = [cost_of(places, [size] * len(places), self._terms.training) for size in (1, 2, 3)[: 2 + squared]]
                offered.append(_Offered(name, self._terms.sizes(name, method, layer), *at))
        key = tuple(offered)
        if key not in self._offers:
            self._offers[key] = _columns(offered)
        sizes = tuple(each[:2] for each in offered)
        covered, penalty = self._factors(sizes, tuple(findings.spectrum))
        with numpy.errstate(over="ignore"):
            gains = utility * covered / penalty + 0.0  # no gain is 0, not −0
        if not (abs(gains) <= MOST_GAIN).all():
            raise PlanError(
                f"the predicted gains of {layer.name}, of utility {utility:g}, are beyond {MOST_GAIN:g}, where sums "
                "overflow; use another normalizer or aggregator, or larger penalties"
            )
        return Unit(
            name=layer.name,
            utility=utility,
            candidates=Candidates(self._offers[key], gains),
            targets=targets,
            notches={name: method.notch for name, method in self._methods.items() if name in targets},
            importance=findings.importance,
            depth=findings.depth,
            training=self._terms.training,
        )

    def _factors(self, offered: "Sequence[tuple[str, range]]", spectrum: Sequence[float]) -> "tuple[Floats, Floats]":
        """By row, the share of the layer's gain that it covers, and what that is divided by.

        offered: by method, its name and its sizes.
        spectrum: as in `Findings`.
        """
        import numpy

        key = (offered, spectrum)
        if key not in self._shares:
            covered, penalties = [], []
            # A share of the gradient says nothing beside shares of a loss: it ranks LoRA's sizes among themselves.
            alone = all(name == "none" or self._methods[name].updates_weights for name, *_ in offered)
            for name, sizes in offered:
                if name == "none":
                    covered.append(0.0)
                    penalties.append(1.0)
                    continue
                method = self._methods[name]
                penalty = self._terms.penalties.get(name, method.penalty)
                measured = self._terms.gains.get(name)
                for size in sizes:
                    profiled = alone and measured is None and size <= len(spectrum)
                    covered.append(spectrum[size - 1] if profiled else coverage(method, size, measured))
                    penalties.append(penalty)
            self._shares[key] = numpy.array(covered), numpy.array(penalties)
        return self._shares[key]


class _Offered(NamedTuple):
    """A method in one layer: its name and its sizes there, and what sizes 1 and 2 cost.

    third: what size 3 costs, where that does not follow, as costs grow with the square of the size.
    """

    method: str
    sizes: range
    first: Cost
    second: Cost
    third: Cost | None = None


def _columns(offered: Iterable[_Offered]) -> Offers:
    """Every size of every method, at its cost; methods in their order, sizes ascending."""
    methods: list[str] = []
    sizes: list[int] = []
    costs: dict[str, list[float]] = {name: [] for name in RESOURCES}
    for method, offered_sizes, first, second, third in offered:
        steps: Sequence[int] = [0] if method == "none" else offered_sizes
        methods += [method] * len(steps)
        sizes += steps
        each = second - first
        for name, column in costs.items():
            start, step = getattr(first, name), getattr(each, name)
            if third is None:
                column += [start + step * (size - 1) for size in steps]
                continue
            bend = getattr(third, name) - getattr(second, name) - step
            column += [start + step * (size - 1) + bend * ((size - 1) * (size - 2) // 2) for size in steps]
    return Offers.of(methods, sizes, costs)


def _places(layer: Layer, name: str, method: Method, terms: Terms, findings: Findings) -> tuple[Target, ...]:
    """Where a method attaches in a layer, with the costs there that only profiling knows."""
    places = tuple(target for target in method.targets(layer) if target.name not in findings.excluded)
    known: dict[str, float] = {}
    if method.updates_weights and places and all(place.keeps_input for place in places):
        known["kept_bytes"] = findings.kept_inputs / len(places)
    if not (method.updates_weights and terms.training.merged):
        known["seconds_fixed"], known["seconds"] = terms.latency.get(name, (0.0, 0.0))
    if all(getattr(place, field) == value for place in places for field, value in known.items()):
        return places
    return tuple(attrs.evolve(place, **known) for place in places)  # type: ignore[arg-type]


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
    found = dict(zip(modules.units, modules.values, strict=True))
    if len(scores) == len([weight for weight in utilities.weights.values() if weight > 0]):
        return found
    return _within_layers(found, profile, utilities)


def _within_layers(found: Mapping[str, float], profile: Profile, utilities: Utilities) -> dict[str, float]:
    """The layers' utilities spread over their modules, where some metric scores layers alone.

    found: the modules' utilities by the other metrics, which say how modules of one layer differ.
    profile: what was measured.
    utilities: of the layers.
    """
    spread: dict[str, float] = {}
    utility_of = dict(zip(utilities.units, utilities.values, strict=True))
    for layer in profile.inventory.layers:
        own = {module.name: found[module.name] for module in layer.modules if module.name in found}
        mean = math.fsum(own.values()) / len(own) if own else 0.0
        if mean > 0 and layer.name in utility_of:
            spread |= {name: utility_of[layer.name] * value / mean for name, value in own.items()}
    return spread
