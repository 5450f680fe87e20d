"""Budgets in their three spellings, and what cannot be read."""

import pytest

from layerlens_core.budget import Budget, Limits
from layerlens_core.errors import BudgetError
from layerlens_core.inventory import Inventory, Layer, LinearModule

MODULES = (
    LinearModule(name="L0.a", layer="L0", kind="linear", in_features=10, out_features=30),
    LinearModule(name="L0.b", layer="L0", kind="conv1d", in_features=30, out_features=10),
)
POOLER = LinearModule(name="pooler", layer=None, kind="linear", in_features=10, out_features=10)
INVENTORY = Inventory(
    architecture="Toy",
    model_type="toy",
    parameters=100_000,
    layers=(Layer(name="L0", modules=MODULES),),
    outside=(POOLER,),
)


@pytest.mark.parametrize(
    ("amount", "parameters"),
    [
        ("50000", 50_000),
        (50_000, 50_000),
        ("50k", 50_000),
        ("1.5M", 1_500_000),
        ("50_000", 50_000),
        ("0.5%", 500),
        ("100%", 100_000),
        ("r=8", 8 * (40 + 40 + 20)),
        ("R=1", 100),
    ],
)
def test_every_spelling_is_a_number_of_parameters(amount, parameters):
    assert Budget(params=amount).resolve(INVENTORY) == Limits(parameters=parameters)


def test_budgets_are_parsed_from_texts():
    assert Budget.parse(["params=r=8"]) == Budget(params="r=8")
    assert Budget.parse([]).resolve(INVENTORY) == Limits(parameters=None)
    assert str(Budget(params="r=8")) == "params=r=8"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["parms=5"], "no budget is of kind 'parms'.*Did you mean 'params'"),
        (["params"], "not of the form KIND=AMOUNT"),
        (["params="], "not of the form KIND=AMOUNT"),
        (["params=-5"], "cannot be read"),
        (["params=many"], "cannot be read"),
        (["params=101%"], "at most 100%"),
        (["params=0%"], "not above 0%"),
        (["params=0"], "leaves nothing to train"),
        (["params=r=0"], "leaves nothing to train"),
        (["params=5", "params=6"], "two budgets of kind 'params'"),
    ],
)
def test_what_cannot_be_read_is_refused(texts, message):
    with pytest.raises(BudgetError, match=message):
        Budget.parse(texts)
