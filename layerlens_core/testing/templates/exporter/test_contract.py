"""The exporter keeps the contract of LayerLens, clause by clause."""

import pytest
from layerlens_core.testing import Check, check_exporter

from layerlens_plugin_example_name import layerlens_exporters

(PROVIDER,) = layerlens_exporters()


@pytest.mark.parametrize("check", check_exporter(PROVIDER), ids=str)
def test_it_keeps_the_contract(check: Check) -> None:
    check()
