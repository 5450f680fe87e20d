"""Find out before a pass whether a metric reads a statistic that it did not declare."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from layerlens_core.errors import LayerLensError, PluginError
from layerlens_core.plugin.guard import Origin
from layerlens_core.plugin.protocols import Score
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.values.statistics import FIELDS, ModuleStatistics

#: Plausible sums of one module, so that a metric gets through to all that it reads.
_SUMS: Mapping[str, Any] = {
    "sum_squared_norm": 4.0,
    "sum_fourth_power": 5.0,
    "sum_group_mean_squared_norm": 1.5,
    "sum_group_mean_fourth_power": 1.25,
    "sum_grouped_squared_norm": 4.0,
    "sum_weight_gradient": 0.5,
    "sum_squared_weight_gradient": 0.25,
    "spectrum": (3.0, 2.0, 1.0, 0.5),
}


class _Watched(ModuleStatistics):
    """Statistics of an imaginary module that remember which of their fields were read."""

    def __getattribute__(self, name: str) -> Any:
        if name in FIELDS:
            object.__getattribute__(self, "__dict__").setdefault("read", set()).add(name)
        return super().__getattribute__(name)


def check_needs(provider: MetricProvider, score: Score, origin: Origin) -> None:
    """Raises `PluginError` where a metric reads what it does not declare in ``needs``.

    The metric is tried on an imaginary module. Any other error there is passed over: on real numbers it may not occur.
    """
    watched = _Watched(module="(an imaginary module)", weights=6, samples=4, groups=2, group_size=2, **_SUMS)
    vars(watched)["read"] = set()  # what attrs itself read does not count
    with suppress(LayerLensError):
        score(watched)
    undeclared = sorted(name for name in vars(watched)["read"] if not FIELDS[name] & set(provider.needs))
    if undeclared:
        gathering = " or ".join(map(repr, sorted(FIELDS[undeclared[0]])))
        raise PluginError(
            f"{origin} reads {undeclared[0]} of the statistic {gathering}, which it does not declare; "
            f"its needs are: {', '.join(provider.needs) or 'none'}"
        )
