"""The table of a comparison, at the widths that terminals have."""

import io

import attrs
import pytest
from rich.console import Console

from comparison.runs import LABELS, runs
from layerlens_core.cli.comparing.table import comparison_table
from layerlens_core.comparison.judging.verdict import verdict

EFFECTS = {
    (name, rank): effect
    for name, effect in {"uniform": 0.0, "plan": -0.03, "shuffled": 0.0, "top-half": 0.08}.items()
    for rank in (1, 4)
}
VERDICT = verdict(runs({**EFFECTS, ("broken", 4): None}, right=True), LABELS)


def printed(found, width):
    file = io.StringIO()
    Console(file=file, width=width).print(comparison_table(found, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_cut_off(width):
    text = printed(VERDICT, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for word in ("uniform", "plan", "better", "worse", "no difference", "diverged", "r=4", "against"):
        assert word in text


def test_intervals_are_where_there_is_room():
    wide, narrow = printed(VERDICT, 140), printed(VERDICT, 80)
    plan = next(each for each in VERDICT.judged if each.key == "plan r=4")
    interval = f"({100 * plan.ratio.low:+.2f} to {100 * plan.ratio.high:+.2f})".replace("-", "−")
    assert interval in wide
    assert interval not in narrow
    assert f"{plan.accuracy:.1%}" in wide


def test_columns_of_which_nothing_is_known_are_left_out():
    alone = verdict(runs({("uniform", 4): 0.0}), LABELS)
    text = printed(alone, 140)
    for heading in ("accuracy", "against", "parameters ×"):
        assert heading not in text


def test_summary_and_warnings_follow():
    text = " ".join(printed(VERDICT, 100).split())
    for line in (*VERDICT.summary, *VERDICT.warnings):
        assert line in text


def test_a_name_that_a_file_holds_does_nothing_on_a_terminal():
    one = attrs.evolve(VERDICT.judged[0], arm="[red]x\x1b[31m")
    text = printed(attrs.evolve(VERDICT, judged=(one,)), 140)
    assert "[red]x" in text
    assert "\x1b" not in text
