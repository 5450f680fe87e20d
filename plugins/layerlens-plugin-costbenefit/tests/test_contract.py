"""It passes the kit for authors of plugins, as docs/plugins.md tells them to use it."""

import pytest

from layerlens_core.testing import check_strategy
from layerlens_plugin_costbenefit import layerlens_strategies

(PROVIDER,) = layerlens_strategies()


@pytest.mark.parametrize("check", check_strategy(PROVIDER), ids=str)
def test_it_keeps_the_contract(check):
    check()
