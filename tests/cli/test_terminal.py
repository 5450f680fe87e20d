"""Of several processes one speaks, and results have standard output for themselves."""

import pytest

from layerlens_core.cli.terminal import is_first, progress_bar, say


@pytest.mark.parametrize(
    ("world", "rank", "first"),
    [(None, None, True), ("1", "0", True), ("4", "0", True), ("4", "3", False), (" 1 ", "7", True), ("4", None, True)],
)
def test_the_first_of_those_that_torchrun_started_speaks(monkeypatch, world, rank, first):
    for name, value in (("WORLD_SIZE", world), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_first() is first


def test_lines_for_people_go_to_standard_error(capsys):
    say("a line")
    assert capsys.readouterr() == ("", "a line\n")


def test_where_no_terminal_is_there_is_no_bar(capfd):
    with progress_bar() as report:
        report("profiling", 1, 4)
        report("profiling", 4, 4)
        report("refining", 1, 1)
    assert capfd.readouterr() == ("", "")
