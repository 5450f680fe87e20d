"""What a type checker refuses: each line that is marked must be an error of the kind named. Read by mypy; never run."""

from collections.abc import Mapping, Sequence

import layerlens_core as ll
import layerlens_core.plugin
from layerlens_core.plugin import (
    AggregatorProvider,
    CandidateSet,
    Context,
    Decision,
    ExporterProvider,
    ExportRequest,
    Layer,
    Limits,
    MethodProvider,
    MetricProvider,
    ModuleStatistics,
    Select,
    StrategyProvider,
    Target,
    Unit,
    strategy,
)
from layerlens_core.plugin.registry import default


def without_context(candidates: CandidateSet, limits: Limits) -> list[Decision]:
    return []


def candidates_given_back(candidates: CandidateSet, limits: Limits, context: Context) -> tuple[Unit, ...]:
    return candidates.units


def misspelt(statistics: ModuleStatistics) -> float:
    return statistics.fishr  # type: ignore[attr-defined, no-any-return]


def in_words(statistics: ModuleStatistics) -> str:
    return "much"


def without_weights(columns: Mapping[str, Sequence[float]]) -> list[float]:
    return []


def one_path(request: ExportRequest) -> str:
    return str(request.out)


class WithoutLargest:
    notch, ceiling, half, penalty, updates_weights = 1, 1.0, 8.0, 1.0, False

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        return ()


strategy("mine", without_context)  # type: ignore[arg-type]
StrategyProvider(name="mine", summary="", load=lambda: without_context)  # type: ignore[arg-type, return-value]
StrategyProvider(name="mine", summary="", load=lambda: candidates_given_back)  # type: ignore[arg-type, return-value]
MetricProvider(name="mine", summary="", unit="1", reduction="sum", load=lambda: in_words)  # type: ignore[arg-type, return-value]
AggregatorProvider(name="mine", summary="", load=lambda: without_weights)  # type: ignore[arg-type, return-value]
ExporterProvider(name="mine", summary="", load=lambda: one_path)  # type: ignore[arg-type, return-value]
MethodProvider(name="mine", summary="", capacity=1, applicable=True, load=WithoutLargest)  # type: ignore[arg-type]
MethodProvider(name="mine", summary="", capacity=1, applicable=True, load=lambda: object(), module=lambda: int)  # type: ignore[arg-type, return-value]

default().get("strategie", "mine")  # type: ignore[call-overload]
default().load("strategie", "mine")  # type: ignore[call-overload]
print(default().get("strategy", "mine").capacity)  # type: ignore[attr-defined]
select: Select = default().load("aggregator", "mine")  # type: ignore[assignment]

print(ll.alocate)  # type: ignore[attr-defined]
print(layerlens_core.plugin.MetricsProvider)  # type: ignore[attr-defined]


def decide(unit: Unit) -> Decision:
    return unit.decide("lora", size=4)  # type: ignore[call-arg]
