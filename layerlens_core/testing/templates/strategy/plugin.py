"""A strategy for LayerLens: LoRA of one rank for the most useful layers."""

from collections.abc import Iterable

from layerlens_core.plugin import Select, StrategyProvider, hookimpl


def _load() -> Select:
    from layerlens_plugin_example_name.select import select

    return select


@hookimpl
def layerlens_strategies() -> Iterable[StrategyProvider]:
    yield StrategyProvider(
        name="example-name",
        summary="LoRA of one rank for the most useful layers, as many as fit",
        options=("rank",),
        load=_load,
    )
