"""What a type checker accepts: plugins as their authors write them. Read by mypy; never run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

import layerlens_core as ll
from layerlens_core.plugin import (
    ActiveProfile,
    AggregatorProvider,
    CandidateSet,
    Context,
    Decision,
    ExporterProvider,
    ExportRequest,
    Layer,
    Limits,
    Method,
    MethodProvider,
    MetricProvider,
    ModuleStatistics,
    Select,
    SideModule,
    StrategyProvider,
    Target,
    hookimpl,
    strategy,
)
from layerlens_core.plugin.registry import default


def coherence(statistics: ModuleStatistics) -> float:
    return statistics.mean_gradient_squared_norm / statistics.fisher


def disturbance(profile: ActiveProfile) -> dict[str, float]:
    return {layer: float(len(profile.samples)) for layer in profile.scored}


def smallest(columns: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    return [min(values) for values in zip(*columns.values(), strict=True)]


def listed(candidates: CandidateSet, limits: Limits, context: Context) -> list[Decision]:
    return [unit.decide("lora", 4, reason="four is enough") for unit in candidates.units]


def lazily(candidates: CandidateSet, limits: Limits, context: Context) -> Iterator[Decision]:
    yield from listed(candidates, limits, context)


def export(request: ExportRequest) -> tuple[Path, ...]:
    return request.adapter()


class Plain:
    """A method whose numbers are attributes of its class."""

    notch, ceiling, half, penalty, updates_weights = 1, 1.0, 8.0, 1.0, False

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        return ()

    def largest(self, layer: Layer) -> int:
        return 4


@frozen
class Frozen:
    """A method whose numbers are fields that cannot be set."""

    notch: int = 1
    ceiling: float = 1.0
    half: float = 8.0
    penalty: float = 1.0
    updates_weights: bool = False

    def targets(self, layer: Layer) -> list[Target]:
        return []

    def largest(self, layer: Layer) -> int:
        return 4


def side() -> type[SideModule]:
    raise NotImplementedError


@hookimpl
def layerlens_metrics() -> Iterable[MetricProvider]:
    yield MetricProvider(
        name="coherence", summary="", unit="1", needs=("gradient_norms",), reduction="mean", load=lambda: coherence
    )
    yield MetricProvider(name="disturbance", summary="", unit="nats", active=True, load=lambda: disturbance)


PROVIDERS = (
    AggregatorProvider(name="smallest", summary="", load=lambda: smallest),
    StrategyProvider(name="listed", summary="", load=lambda: listed),
    StrategyProvider(name="lazily", summary="", load=lambda: lazily),
    MethodProvider(name="plain", summary="", capacity=1, applicable=True, load=Plain, module=side),
    MethodProvider(name="frozen", summary="", capacity=1, applicable=False, load=Frozen),
    ExporterProvider(name="export", summary="", load=lambda: export),
    strategy("mine", listed),
)
ll.register(
    ll.strategy(
        "inline", lambda candidates, limits, context: [unit.decide("none", reason="") for unit in candidates.units]
    )
)

found: StrategyProvider = default().get("strategy", "mine")
select: Select = default().load("strategy", "mine")
method: Method = default().load("method", "lora")
options: tuple[str, ...] = default().get("strategy", "mine").options
budget: ll.Budget = ll.Budget(params="r=8")
