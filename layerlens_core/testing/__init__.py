"""The kit with which authors of plugins check them; docs/plugins.md shows it at work.

    import pytest
    from layerlens_core.testing import check_strategy
    from layerlens_plugin_mine import layerlens_strategies

    (PROVIDER,) = layerlens_strategies()

    @pytest.mark.parametrize("check", check_strategy(PROVIDER), ids=str)
    def test_the_contract(check):
        check()

``check_metric`` and its like give named checks, each of which holds a provider to one clause of the contract. Making
them costs nothing: models, and the libraries that they need, are loaded when a check runs. pytest itself is imported
by `layerlens_core.testing.fixtures` alone, which is a plugin of pytest's (``-p layerlens_core.testing.fixtures``).
"""

from typing import TYPE_CHECKING

from layerlens_core.lazy import lazily, names_of

if TYPE_CHECKING:
    from layerlens_core.testing.aggregator import check_aggregator as check_aggregator
    from layerlens_core.testing.check import Check as Check
    from layerlens_core.testing.check import Failed as Failed
    from layerlens_core.testing.exporter import check_exporter as check_exporter
    from layerlens_core.testing.instances import random_inventory as random_inventory
    from layerlens_core.testing.instances import random_problem as random_problem
    from layerlens_core.testing.instances import random_profile as random_profile
    from layerlens_core.testing.method import check_method as check_method
    from layerlens_core.testing.metric import check_metric as check_metric
    from layerlens_core.testing.models import MODELS as MODELS
    from layerlens_core.testing.models import random_model as random_model
    from layerlens_core.testing.models import tiny_model as tiny_model
    from layerlens_core.testing.models import tiny_profile as tiny_profile
    from layerlens_core.testing.models import tiny_samples as tiny_samples
    from layerlens_core.testing.new import new_plugin as new_plugin
    from layerlens_core.testing.registries import isolated_registry as isolated_registry
    from layerlens_core.testing.strategy import check_strategy as check_strategy

_HOMES = {
    "testing.check": ("Check", "Failed"),
    "testing.metric": ("check_metric",),
    "testing.aggregator": ("check_aggregator",),
    "testing.strategy": ("check_strategy",),
    "testing.method": ("check_method",),
    "testing.exporter": ("check_exporter",),
    "testing.registries": ("isolated_registry",),
    "testing.new": ("new_plugin",),
    "testing.instances": ("random_inventory", "random_profile", "random_problem"),
    "testing.models": ("MODELS", "tiny_model", "random_model", "tiny_samples", "tiny_profile"),
}

__all__ = names_of(_HOMES)

if not TYPE_CHECKING:  # a type checker would take any name for one of ours
    __getattr__, __dir__ = lazily(__name__, _HOMES)
