"""Every provider that comes along passes the public kit."""

import pytest

import layerlens_builtin
from layerlens_core import testing

CHECKS = [
    pytest.param(check, id=f"{provider.name}-{check}")
    for hook, kit in (
        (layerlens_builtin.layerlens_metrics, testing.check_metric),
        (layerlens_builtin.layerlens_aggregators, testing.check_aggregator),
        (layerlens_builtin.layerlens_strategies, testing.check_strategy),
        (layerlens_builtin.layerlens_methods, testing.check_method),
        (layerlens_builtin.layerlens_exporters, testing.check_exporter),
    )
    for provider in hook()
    for check in kit(provider)
]


@pytest.mark.torch
@pytest.mark.parametrize("check", CHECKS)
def test_a_built_in_provider_keeps_its_contract(check):
    check()
