"""Find out before a pass whether a metric reads a statistic that it did not declare."""

from collections.abc import Mapping
from typing import Any

from layerlens_core.errors import PluginError
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


class _UndeclaredError(Exception):
    """A field was read that belongs to no declared statistic."""


class _Watched(ModuleStatistics):
    """Statistics of an imaginary module, of which only the declared ones may be read."""

    def __getattribute__(self, name: str) -> Any:
        needed = FIELDS.get(name)
        if needed is not None:
            declared = object.__getattribute__(self, "__dict__").get("declared")
            if declared is not None and not declared & needed:
                raise _UndeclaredError(min(needed))
        return super().__getattribute__(name)


def check_needs(provider: MetricProvider, score: Score, origin: Origin) -> None:
    """Raises `PluginError` where a metric reads what it does not declare in ``needs``.

    The metric is tried on an imaginary module. Any other error there is passed over: on real numbers it may not occur.
    """
    watched = _Watched(module="(an imaginary module)", weights=6, samples=4, groups=2, group_size=2, **_SUMS)
    object.__setattr__(watched, "declared", frozenset(provider.needs))
    try:
        score(watched)
    except PluginError as error:
        if isinstance(error.__cause__, _UndeclaredError):
            raise PluginError(
                f"{origin} reads the statistic {error.__cause__.args[0]!r}, which it does not declare; "
                f"its needs are: {', '.join(provider.needs) or 'none'}"
            ) from error.__cause__
    except KeyboardInterrupt:
        raise
    except Exception:  # an error of ours that the metric raises on purpose, about numbers that are not real
        return
