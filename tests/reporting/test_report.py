"""What a report refuses, and what it makes of runs that lack something."""

import random
import re
import shutil
import sys

import pytest

from layerlens_core.errors import FileError
from layerlens_core.reporting.report import report
from mutation.content import as_json
from reporting.made import encoder, profile, write_comparison, write_run


@pytest.fixture
def run(reported, tmp_path):
    """A copy of a run that was compared."""
    return shutil.copytree(reported("encoder").run, tmp_path / "run")


def test_an_existing_file_stays_unless_told_otherwise(run, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    with pytest.raises(FileError, match=r"page\.html exists already; use --overwrite or another --out"):
        report(run, out)
    assert out.read_text() == "mine"
    report(run, out, overwrite=True)
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_a_directory_is_no_target(run, tmp_path):
    with pytest.raises(FileError, match="is a directory; name a file"):
        report(run, tmp_path, overwrite=True)


def test_a_directory_without_a_run_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(FileError, match=r"is .* the directory of a run"):
        report(tmp_path, tmp_path / "new" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_files_of_two_runs_are_refused(run, tmp_path):
    write_run(tmp_path / "other", profile(encoder(), seed=1))
    shutil.copy(tmp_path / "other" / "trace.jsonl", run)
    with pytest.raises(FileError, match="is not the trace of"):
        report(run, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_the_extra_a_line_says_what_to_install(run, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FileError, match=f"a report needs {missing}: pip install altair vl-convert-python"):
        report(run, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_run_without_a_trace_says_so_and_shows_the_same_scores(run, tmp_path):
    with_trace = report(run, tmp_path / "with.html").read_text()
    (run / "trace.jsonl").unlink()
    without = report(run, tmp_path / "without.html").read_text()
    assert "no trace: " in without
    assert "normalised scores are computed anew from the profile" in without
    row = next(
        line for line in with_trace.splitlines() if line.startswith('<tr><th scope="row">bert.encoder.layer.0</th>')
    )
    assert row in without


def test_a_comparison_of_an_earlier_plan_is_told_as_such(run, tmp_path):
    plan = write_run(run, profile(encoder()), budget="params=r=2")
    write_comparison(run, plan, of="another")
    text = report(run, tmp_path / "page.html").read_text()
    assert "An earlier plan of this run was compared, not the one above." in text
    assert "Train this plan" not in text


def test_a_damaged_comparison_is_told_and_the_rest_shown(run, tmp_path):
    (run / "compare" / "comparison.json").write_text("{")
    text = report(run, tmp_path / "page.html").read_text()
    assert "comparison.json is not valid JSON" in text
    assert 'id="measured"' not in text


def test_a_plan_of_a_plugin_that_is_missing_is_shown_without_a_frontier(run, tmp_path, monkeypatch):
    from layerlens_core.errors import PluginError

    def missing(*_):
        raise PluginError("no strategy is named 'tempered'")

    monkeypatch.setattr("layerlens_core.reporting.gather.pose", missing)
    text = report(run, tmp_path / "page.html").read_text()
    assert "no frontier and no scores of single modules" in text
    assert "Predicted gain against budget" not in text


def test_names_and_numbers_that_nobody_can_draw_are_shown_as_far_as_they_can_be(run, tmp_path):
    path = run / "compare" / "comparison.json"
    text = path.read_text(encoding="utf-8").replace('"plan"', '"plan\\u001b[2J\\ud83d"')
    path.write_text(re.sub(r'"parameters": 4000', f'"parameters": {2**62}', text), encoding="utf-8")
    page = report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "plan\ufffd[2J\ufffd r=4" in page
    assert f"{2**62:,}" in page


def test_a_chart_that_cannot_be_drawn_is_named(run, tmp_path, monkeypatch):
    def no(*_, **__):
        raise ValueError

    monkeypatch.setattr("layerlens_core.reporting.page.inline_svg", no)
    page = report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("its numbers are too large, or its names no text, to be drawn") == 5


def test_changed_comparisons_are_told_or_shown(run, tmp_path):
    """Whatever stands in the one file that nothing else of a run checks."""
    path = run / "compare" / "comparison.json"
    content = path.read_bytes()
    shown = 0
    for number in range(25):
        path.write_bytes(as_json(content, random.Random(f"report {number}")))
        page = report(run, tmp_path / "page.html", overwrite=True).read_text(encoding="utf-8")
        shown += 'id="measured"' in page
    assert 0 < shown < 25
