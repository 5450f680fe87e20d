"""Budgets and methods are taken as people write them in Python."""

import pytest

from layerlens_core.allocation.allocate import allocate, names_in
from layerlens_core.allocation.budget import Budget
from layerlens_core.demo.scenarios import profile_of
from layerlens_core.errors import BudgetError, PluginError

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
