"""A metric for LayerLens: how large gradients are for a weight."""

from collections.abc import Iterable

from layerlens_core.plugin import MetricProvider, Score, hookimpl


def _load() -> Score:
    from layerlens_plugin_example_name.score import score

    return score


@hookimpl
def layerlens_metrics() -> Iterable[MetricProvider]:
    yield MetricProvider(
        name="example-name",
        summary="squared gradient for a weight: the Fisher trace over the number of weights",
        unit="(nats/weight)²/weight",
        needs=("sample_norms",),
        reduction="weighted_mean",
        load=_load,
    )
