"""The strategy keeps the contract of LayerLens, clause by clause, and decides as it says."""

from collections.abc import Callable

import pytest
from layerlens_core.plugin import CandidateSet, Context, Limits
from layerlens_core.testing import Check, check_strategy

from layerlens_plugin_example_name import layerlens_strategies
from layerlens_plugin_example_name.select import select

(PROVIDER,) = layerlens_strategies()


@pytest.mark.parametrize("check", check_strategy(PROVIDER), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()


def test_every_unit_gets_the_rank_where_nothing_is_bounded(
    random_problem: Callable[..., tuple[CandidateSet, Limits]],
) -> None:
    candidates, _ = random_problem(0)
    decisions = select(candidates, Limits(), Context(options={"rank": "2"}))
    assert {(decision.method, decision.size) for decision in decisions} == {("lora", 2)}
