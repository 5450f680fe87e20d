"""Of a provider that breaks one clause of its contract, the check of that clause fails, and no other."""

import pytest

from layerlens_core import testing
from layerlens_core.plugin.providers import kind_of
from testing.bad import BAD
from testing.heavy import HEAVY

pytestmark = pytest.mark.torch


def failing(provider):
    """The names of the checks that a provider fails."""
    found = []
    kind = kind_of(provider)
    fewer = {"models": ("llama",)} if kind in ("metric", "method") else {}
    for check in getattr(testing, f"check_{kind}")(provider, **fewer):
        try:
            check()
        except Exception as error:
            found.append(f"{check}" if str(error) else "an error without words")
    return found


@pytest.mark.parametrize(
    ("provider", "check"), [*BAD, (HEAVY, "registers-without-torch")], ids=lambda each: getattr(each, "name", each)
)
def test_exactly_the_right_check_fails(provider, check):
    assert failing(provider) == [check]
