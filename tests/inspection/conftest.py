"""The models whose inventories are known."""

import pytest

import zoo
from zoo.inventories import EXPECTED
from zoo.tiny_model import TinyModel


@pytest.fixture(params=[name for name, expected in EXPECTED.items() if expected.layers])
def family(request: pytest.FixtureRequest) -> TinyModel:
    """Every model whose inventory is written down."""
    return zoo.find(request.param)


@pytest.fixture(params=EXPECTED)
def any_family(request: pytest.FixtureRequest) -> TinyModel:
    """Those, and the ones of which only the behaviour is checked."""
    return zoo.find(request.param)
