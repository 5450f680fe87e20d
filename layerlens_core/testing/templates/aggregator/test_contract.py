"""The aggregator keeps the contract of LayerLens, clause by clause, and combines as it says."""

import pytest
from layerlens_core.testing import Check, check_aggregator

from layerlens_plugin_example_name import layerlens_aggregators
from layerlens_plugin_example_name.combine import combine

(PROVIDER,) = layerlens_aggregators()


@pytest.mark.parametrize("check", check_aggregator(PROVIDER), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()


def test_the_metric_that_thinks_least_of_a_unit_decides() -> None:
    columns = {"fisher": (0.2, 0.8), "snr": (0.5, 0.5), "kappa": (0.0, 0.0)}
    assert combine(columns, {"fisher": 0.5, "snr": 0.5, "kappa": 0.0}) == [0.2, 0.5]
