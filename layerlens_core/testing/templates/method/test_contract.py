"""The method keeps the contract of LayerLens, clause by clause, and costs what it says."""

from collections.abc import Callable

import pytest
from layerlens_core.plugin import Inventory
from layerlens_core.testing import Check, check_method

from layerlens_plugin_example_name import layerlens_methods
from layerlens_plugin_example_name.places import METHOD

(PROVIDER,) = layerlens_methods()


@pytest.mark.parametrize("check", check_method(PROVIDER), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()


def test_it_has_a_parameter_for_every_output(random_inventory: Callable[..., Inventory]) -> None:
    for layer in random_inventory(0).layers:
        assert [each.parameters(1) for each in METHOD.targets(layer)] == [each.out_features for each in layer.modules]
