"""Rows from every kind of file, and a word on the line that cannot be read."""

import csv
import json
from pathlib import Path

import pytest

from layerlens_core.data.rows import read_rows
from layerlens_core.errors import DataError

ROWS = [{"text": "first, “quoted”\nand broken", "label": "a"}, {"text": "second", "label": "b"}]


def test_jsonl_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    assert read_rows(path) == ROWS
    path.write_text("\ufeff" + "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    assert read_rows(str(path)) == ROWS


def test_json_files_hold_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read_rows(path) == ROWS


def test_csv_is_read_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.CSV"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, fieldnames=["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    assert read_rows(path) == ROWS


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet") == ROWS


def test_nested_messages_survive_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet") == rows


@pytest.mark.torch
def test_a_saved_dataset_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "flat")
    both = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "split")
    datasets.enable_progress_bars()
    capfd.readouterr()
    assert read_rows(tmp_path / "flat") == ROWS
    assert read_rows(str(tmp_path / "split")) == ROWS
    assert read_rows(tmp_path / "split", split="test") == ROWS[:1]
    assert capfd.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()  # the caller's choice, put back
    with pytest.raises(DataError, match=r"no split 'dev'; it has: train, test"):
        read_rows(tmp_path / "split", split="dev")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text" "y"}\n', r"a\.jsonl, line 2, is no JSON: .* at column 9"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', r"a\.jsonl, line 2, is a JSON array; each line must be one JSON object"),
        ("a.jsonl", b"17\n", r"line 1, is a JSON number"),
        ("a.jsonl", b"null\n", r"line 1, is a JSON null"),
        ("a.json", b'[\n  {"text": "x"}\n]\n', r"a\.json, line 1, is no JSON.*each line must be one JSON object"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"a\.jsonl is not UTF-8 text"),
        ("a.jsonl", b"\n\n", r"a\.jsonl holds no rows"),
        ("a.csv", b"text,label\n", r"a\.csv holds no rows"),
        ("a.csv", b"text,label\nx,1\ny\n", r"row that ends in line 3 does not have the 2 fields of the header"),
        ("a.csv", b"text,label\nx,1,2\n", r"row that ends in line 2 does not have the 2 fields of the header"),
        ("a.csv", b'text,label\nx,1\n"never closed,1\nx,2\n', r"a\.csv: the row that begins in line 3 is no CSV"),
        ("a.csv", b'text,label\n"never closed,1\n', r"a\.csv: the row that begins in line 2 is no CSV"),
        ("a.csv", b"text,label\ncaf\xe9,1\n", r"a\.csv is not UTF-8 text"),
        ("a.parquet", b"not parquet at all", r"a\.parquet is no Parquet file"),
        ("a.txt", b"x\n", r"a\.txt is not of a known kind; there are: \.jsonl, \.json, \.csv, \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_rows(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.torch
def test_a_directory_without_a_dataset_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"is neither a data file nor a dataset that can be loaded"):
        read_rows(tmp_path)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "./nowhere", "/nowhere/at/all"])
def test_a_file_that_does_not_exist_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(DataError, match=rf"the data file {source} does not exist"):
        read_rows(source)
