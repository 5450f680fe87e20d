"""The models that are profiled."""

import pytest

import zoo
from zoo.profiled import PROFILED
from zoo.tiny_model import TinyModel


@pytest.fixture(params=PROFILED)
def family(request: pytest.FixtureRequest) -> TinyModel:
    """One model of each task, and of each way to write a layer."""
    return zoo.find(request.param)
