"""The hooks through which plugins add to LayerLens; one hook a concept.

A plugin is a module (or any object) whose functions carry the `hookimpl` marker and the names below. It is found
through the entry-point group ``layerlens``. A whole plugin::

    from layerlens_core.plugin import MetricProvider, hookimpl

    def coherence(statistics):
        return statistics.mean_gradient_squared_norm / statistics.fisher if statistics.fisher else 0.0

    @hookimpl
    def layerlens_metrics():
        yield MetricProvider(
            name="coherence", summary="share of the gradient that samples agree on", unit="1",
            needs=("gradient_norms",), reduction="weighted_mean", load=lambda: coherence,
        )

Every hook is called once, when the plugin is loaded, without arguments, and returns an iterable of provider records.
The order among plugins carries no meaning: names must be unique within a kind, and two providers of one name are both
refused.
"""

from collections.abc import Iterable

import pluggy

from layerlens_core.plugin.providers import (
    AggregatorProvider,
    ExporterProvider,
    Kind,
    MethodProvider,
    MetricProvider,
    StrategyProvider,
)

PROJECT = "layerlens"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def layerlens_metrics() -> Iterable[MetricProvider]:  # type: ignore[empty-body]
    """Signals that score modules or layers, raw and in a declared unit."""


@hookspec
def layerlens_aggregators() -> Iterable[AggregatorProvider]:  # type: ignore[empty-body]
    """Rules that combine the normalised scores of all metrics into one utility for each unit."""


@hookspec
def layerlens_strategies() -> Iterable[StrategyProvider]:  # type: ignore[empty-body]
    """Rules that pick a method and a size for every unit within the limits."""


@hookspec
def layerlens_methods() -> Iterable[MethodProvider]:  # type: ignore[empty-body]
    """PEFT methods: where each attaches, what it costs and how its size grows."""


@hookspec
def layerlens_exporters() -> Iterable[ExporterProvider]:  # type: ignore[empty-body]
    """Ways to hand a plan to a trainer, for ``layerlens export --to NAME``."""


#: Hook name -> kind of provider that it returns.
HOOKS: dict[str, Kind] = {
    "layerlens_metrics": "metric",
    "layerlens_aggregators": "aggregator",
    "layerlens_strategies": "strategy",
    "layerlens_methods": "method",
    "layerlens_exporters": "exporter",
}
