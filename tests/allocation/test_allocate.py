"""Budgets and methods are taken as people write them in Python."""

import attrs
import pytest

from layerlens_core.allocation.allocate import allocate, names_in
from layerlens_core.allocation.budget import Budget
from layerlens_core.demo.scenarios import profile_of
from layerlens_core.errors import BudgetError, PluginError, ScoreError

PROFILE = profile_of([float(i + 1) for i in range(12)])


def test_a_budget_may_be_a_text():
    expected = allocate(PROFILE, budget=Budget(params="r=4"))
    assert allocate(PROFILE, budget="params=r=4") == expected
    assert allocate(PROFILE, budget=["params=r=4"]) == expected
    with pytest.raises(BudgetError, match="budget 'r=4' is not of the form KIND=AMOUNT, such as params=r=4"):
        allocate(PROFILE, budget="r=4")


def test_methods_may_be_a_text():
    expected = allocate(PROFILE, methods=["lora", "adapter"])
    assert allocate(PROFILE, methods="lora, adapter") == expected
    with pytest.raises(PluginError, match="no method is named 'loar'"):
        allocate(PROFILE, methods="loar")
    assert names_in("lora") == names_in(("lora",)) == ("lora",)


@pytest.mark.parametrize("strategy", ["uniform", "tempered", "threshold", "budget"])
def test_a_profile_without_scores_is_refused_before_any_strategy_sees_it(strategy):
    unscored = attrs.evolve(PROFILE, scores=tuple(attrs.evolve(each, values={}) for each in PROFILE.scores))
    with pytest.raises(ScoreError, match="no layer has a score, so there is nothing to decide"):
        allocate(unscored, strategy=strategy)
