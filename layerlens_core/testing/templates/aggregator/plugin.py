"""An aggregator for LayerLens: a layer is worth what the metric that thinks least of it says."""

from collections.abc import Iterable

from layerlens_core.plugin import AggregatorProvider, Combine, hookimpl


def _load() -> Combine:
    from layerlens_plugin_example_name.combine import combine

    return combine


@hookimpl
def layerlens_aggregators() -> Iterable[AggregatorProvider]:
    yield AggregatorProvider(
        name="example-name",
        summary="the smallest score: a layer is important where all metrics find it so",
        load=_load,
    )
