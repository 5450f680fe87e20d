"""The metric keeps the contract of LayerLens, clause by clause, and scores what it says."""

from collections.abc import Callable

import pytest
from layerlens_core import Profile
from layerlens_core.testing import Check, check_metric

from layerlens_plugin_example_name import layerlens_metrics
from layerlens_plugin_example_name.score import score

(PROVIDER,) = layerlens_metrics()


@pytest.mark.parametrize("check", check_metric(PROVIDER), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()


def test_it_is_the_fisher_trace_over_the_number_of_weights(tiny_profile: Callable[[str], Profile]) -> None:
    for statistics in tiny_profile("llama").statistics:
        assert score(statistics) == pytest.approx(statistics.fisher / statistics.weights)
