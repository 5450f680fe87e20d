"""Of several processes one speaks, and results have standard output for themselves."""

import io
import json

import pytest

from layerlens_core.cli.progress.shown import Lines, loading, progress_bar
from layerlens_core.cli.terminal import is_first, say, shown, writes_anything


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


def test_where_no_terminal_is_what_takes_long_is_said_in_lines(capfd):
    seconds = [0.0]
    report = Lines(clock=lambda: seconds[0])
    for done in range(101):
        seconds[0] = done * 1.5
        report("profiling", done, 100)
    told = capfd.readouterr().err.splitlines()
    assert told[0] == "profiling: 2 of 100 in 3 s, about 2 min left"
    assert told[1].startswith("profiling: 9 of 100 in 14 s")
    assert 8 <= len(told) <= 15  # one in ten seconds, rarer in the end
    report("resumed", 90, 100)
    seconds[0] += 4
    report("resumed", 91, 100)
    assert capfd.readouterr().err == "resumed: 91 of 100 in 4 s, about 36 s left\n"


def test_a_line_comes_before_the_seconds_that_torch_takes(capfd, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    loading("a/model")
    assert capfd.readouterr().err == ""
    monkeypatch.delitem(sys.modules, "torch")
    loading("a/model")
    assert capfd.readouterr().err == "loading torch and a/model …\n"


def test_where_no_terminal_is_there_is_no_bar(capfd):
    with progress_bar() as report:
        report("profiling", 1, 4)
        report("profiling", 4, 4)
        report("refining", 1, 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("model.layers.0", "model.layers.0"),
        ("naïve 数 →", "naïve 数 →"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\u2028", "\\u2028"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_would_act_on_a_terminal_is_spelled_out(text, seen):
    assert shown(text) == seen


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_stream_writes_every_character(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    writes_anything(stream)
    text = "█·–≤ ü 数 \U0001f600 \udc80"
    stream.write(json.dumps(text, ensure_ascii=False))
    stream.flush()
    read = json.loads(raw.getvalue().decode(encoding))
    assert read.endswith("ü 数 \U0001f600 \udc80")
    assert read.startswith("█·–≤" if encoding == "utf-8" else "#")


def test_what_writes_no_text_is_left_alone():
    writes_anything(object())
    writes_anything(None)
