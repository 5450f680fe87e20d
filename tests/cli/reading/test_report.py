"""``layerlens report``: where the page lies, and what is refused."""

import pytest


@pytest.fixture
def there(finished_runs):
    return finished_runs["bert-classifier"]


def test_it_prints_where_the_page_lies(layerlens, there, tmp_path):
    out = tmp_path / "new" / "page.html"
    result = layerlens.ok("report", there, "--out", out)
    assert result.stdout.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_what_exists_is_left_alone(layerlens, there, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    message = layerlens.refused("report", there, "--out", out, out=out)
    assert "exists already; use --overwrite or another --out" in message
    layerlens.ok("report", there, "--out", out, "--overwrite")
    assert out.read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize("run", ["missing", "."])
def test_a_directory_without_a_run_is_refused(layerlens, tmp_path, run):
    message = layerlens.refused("report", tmp_path / run, "--out", tmp_path / "page.html", out=tmp_path / "page.html")
    assert "is" in message
    assert "the directory of a run?" in message


def test_a_target_in_no_directory_is_refused(layerlens, there, tmp_path):
    (tmp_path / "file").write_text("")
    message = layerlens.refused("report", there, "--out", tmp_path / "file" / "page.html")
    assert f"{tmp_path / 'file'} is a file" in message
