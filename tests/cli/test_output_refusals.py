"""What lies where a command would write is neither overwritten nor left half replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Model = Callable[[str], str]
Data = Callable[[str], str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["profile.json", "plan.json", "trace.jsonl"])
def test_another_run_is_in_the_way_before_the_model_is_loaded(
    layerlens: Any, data: Data, tmp_path: Path, out: Path, name: str
) -> None:
    out.mkdir()
    (out / name).write_text("precious")
    arguments = (tmp_path / "no-model", "--data", data("text"), "--out", out)
    for command in ("plan", "profile"):
        message = layerlens.refused(command, *arguments, out=out)
        assert f"{out} already holds a run ({name}); use --overwrite or another --out" in message


def test_an_output_that_is_a_file_is_refused(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--out", place, out=file)
        assert message == f"Error: {file} is a file; --out must name a directory\n"


def test_a_failure_takes_away_the_directories_that_it_made_and_no_other(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    arguments = ("plan", model("llama"), "--data", data("text"), "--samples", 1)
    layerlens.refused(*arguments, "--out", tmp_path / "old" / "new" / "run")
    assert list((tmp_path / "old").iterdir()) == []


def test_a_failure_leaves_the_run_that_was_to_be_overwritten(
    layerlens: Any, run: Callable[..., Path], model: Model, data: Data
) -> None:
    there = run()
    layerlens.refused(
        "plan", model("llama"), "--data", data("text"), "--samples", 1, "--out", there, "--overwrite", out=there
    )
