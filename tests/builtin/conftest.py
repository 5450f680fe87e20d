"""Profiles made by hand, for every test of a strategy."""

from collections.abc import Callable

import pytest

from bert_profile import bert_profile
from layerlens_core.values.profile import Profile


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    """See `bert_profile`."""
    return bert_profile
