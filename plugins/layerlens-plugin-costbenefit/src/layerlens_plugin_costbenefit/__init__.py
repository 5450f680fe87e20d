"""The strategy ``cost-benefit``: spend while the marginal gain is worth its cost."""

from collections.abc import Iterable
from typing import Any

from layerlens_core.plugin import StrategyProvider, hookimpl


def _load() -> Any:
    from layerlens_plugin_costbenefit.strategy import select

    return select


@hookimpl
def layerlens_strategies() -> Iterable[StrategyProvider]:
    """One strategy; its options are the weights of the objective."""
    yield StrategyProvider(
        name="cost-benefit",
        summary="spend while the marginal gain is worth its cost, within the budget",
        options=("utility", "cost", "flops", "memory", "latency"),
        load=_load,
    )
