"""pytest's side of the kit: ``pytest -p layerlens_core.testing.fixtures``, or the same in ``addopts``.

Nothing is fetched from a hub while it is loaded. The only module of the kit that imports pytest.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from layerlens_core import testing
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Limits
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Profile

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def pytest_configure() -> None:
    """Before any test: libraries that would ask a hub read this as they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def isolated_registry() -> Iterator[Registry]:
    """The registry of this process, with the built-in providers alone; what a test registers is gone afterwards."""
    with testing.isolated_registry() as registry:
        yield registry


@pytest.fixture
def tiny_model() -> "Callable[..., PreTrainedModel]":
    """Makes models: see `layerlens_core.testing.tiny_model`."""
    return testing.tiny_model


@pytest.fixture
def random_model() -> "Callable[[int], PreTrainedModel]":
    """Makes models of random sizes: see `layerlens_core.testing.random_model`."""
    return testing.random_model


@pytest.fixture
def tiny_samples() -> "Callable[..., list[dict[str, Tensor]]]":
    """Makes samples for them: see `layerlens_core.testing.tiny_samples`."""
    return testing.tiny_samples


@pytest.fixture
def tiny_profile() -> Callable[[str], Profile]:
    """What profiling them gives: see `layerlens_core.testing.tiny_profile`."""
    return testing.tiny_profile


@pytest.fixture
def random_inventory() -> Callable[..., Inventory]:
    """Draws inventories, without a model: see `layerlens_core.testing.random_inventory`."""
    return testing.random_inventory


@pytest.fixture
def random_profile() -> Callable[..., Profile]:
    """Draws profiles, without a model: see `layerlens_core.testing.random_profile`."""
    return testing.random_profile


@pytest.fixture
def random_problem() -> Callable[..., tuple[CandidateSet, Limits]]:
    """Draws what a strategy gets: see `layerlens_core.testing.random_problem`."""
    return testing.random_problem
