"""Errors: one root, an exit status each, and hints that help."""

import pytest

from bert_profile import bert_profile
from layerlens_core import errors
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import LayerLensError, first_line, nearest, shown


def test_every_error_has_one_root_and_says_what_the_command_line_exits_with():
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(kinds) > 5
    for kind in kinds:
        assert issubclass(kind, LayerLensError)
        assert kind.exit_code in {1, 2}
        assert (kind.__doc__ or "").strip()


@pytest.mark.parametrize(
    ("name", "hint"), [("fischer", " Did you mean 'fisher'?"), ("qqq", ""), ("fisher", " Did you mean 'fisher'?")]
)
def test_the_nearest_name_is_a_hint_where_there_is_one(name, hint):
    assert nearest(name, (each for each in ("weight_gradient", "fisher"))) == hint


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (KeyError("k"), "'k'"),
    ],
)
def test_somebody_elses_error_is_told_in_a_line(error, line):
    assert first_line(error) == line


def test_all_errors_have_one_root():
    with pytest.raises(LayerLensError):
        allocate(bert_profile([1]), budget=Budget(params=1))


def test_what_would_move_a_cursor_is_written_out():
    assert shown("naïve a\x1b[2J\nb\ud83d") == r"naïve a\x1b[2J\nb\ud83d"
    assert shown("x" * 99) == "x" * 40
    assert first_line(ValueError("a\x0fb")) == r"a\x0fb"
