"""The records of providers: documented, and picky about what they are given."""

import pytest

from layerlens_core.plugin.providers import KINDS, MetricProvider, StrategyProvider
from plugin.handmade import unused


@pytest.mark.parametrize("record", [StrategyProvider, MetricProvider])
def test_one_string_is_not_taken_for_several_names(record):
    """A comma is easily forgotten in ``("alpha",)``, and ``alpha`` would be five options of a letter each."""
    field = {"options": "alpha"} if record is StrategyProvider else {"needs": "gradient_norms", "unit": "1"}
    with pytest.raises(TypeError, match="several names"):
        record(name="mine", summary="", load=unused, **field)


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_documented(kind):
    assert (KINDS[kind].__doc__ or "").strip()
