"""Data that cannot be read or used end in a line or two that say what, where and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Model = Callable[[str], str]
Data = Callable[[str], str]
Write = Callable[..., str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_missing_data_file_is_named(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "nowhere.jsonl"
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == f"Error: the data file {path} does not exist\n"


def test_an_empty_data_file_is_named(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == f"Error: {path} holds no rows\n"


def test_a_line_that_is_no_json_is_named_by_its_number(layerlens: Any, model: Model, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "the cat"}\n\n{"text": the dog}\n')
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert f"{path}, line 3, is no JSON: " in message
    assert "each line must be one JSON object" in message


def test_a_dataset_that_is_not_there_says_what_was_tried(layerlens: Any, model: Model, out: Path) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", "nobody/nothing", "--out", out, out=out)
    assert "nobody/nothing is neither a data file nor a dataset that can be loaded" in message


def test_data_without_a_text_field_name_the_fields_and_the_option(
    layerlens: Any, model: Model, write: Write, out: Path
) -> None:
    path = write("rows.jsonl", [{"body": "the cat", "id": 1}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert "no text field; found: body, id." in message
    assert "--text-field" in message


def test_data_without_a_label_field_name_the_fields_and_the_option(
    layerlens: Any, model: Model, data: Data, out: Path
) -> None:
    message = layerlens.refused(
        "plan", model("bert"), "--data", data("text"), "--task", "sequence-classification", "--out", out, out=out
    )
    assert "no label field; found: text. Name one with --label-field" in message


def test_a_field_that_is_misspelt_gets_the_nearest_name(layerlens: Any, model: Model, write: Write, out: Path) -> None:
    path = write("rows.jsonl", [{"body": "the cat"}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--text-field", "boddy", "--out", out, out=out)
    assert "no field 'boddy' (--text-field); they have: body. Did you mean 'body'?" in message


def test_a_row_without_text_is_named_by_its_number(layerlens: Any, model: Model, write: Write, out: Path) -> None:
    path = write("rows.jsonl", [{"text": "the cat"}, {"text": "the dog"}, {"text": None}])
    message = layerlens.refused("plan", model("llama"), "--data", path, "--out", out, out=out)
    assert message == "Error: row 3: field 'text' must hold text, but holds nothing\n"


@pytest.mark.parametrize(
    ("family", "form", "task", "said"),
    [
        ("t5", "text", None, "t5, a sequence-to-sequence model, needs data with prompt and completion"),
        ("bert", "pairs", None, "bert, a masked language model, needs data with text"),
        ("t5", "labelled", "seq2seq-lm", "--task seq2seq-lm needs data with prompt and completion"),
        ("bert", "pairs", "masked-lm", "--task masked-lm needs data with text"),
        ("t5", "text", "causal-lm", "cannot be loaded for causal-lm"),
    ],
)
def test_data_that_the_task_cannot_use_are_refused(
    layerlens: Any, model: Model, data: Data, out: Path, family: str, form: str, task: str | None, said: str
) -> None:
    options = ("--task", task) if task else ()
    message = layerlens.refused("plan", model(family), "--data", data(form), *options, "--out", out, out=out)
    assert said in message


def test_too_few_samples_say_how_many_are_needed(layerlens: Any, model: Model, data: Data, out: Path) -> None:
    message = layerlens.refused("plan", model("llama"), "--data", data("text"), "--samples", 1, "--out", out, out=out)
    assert "1 of 1 samples have a label" in message
    assert "at least one group of 2" in message
