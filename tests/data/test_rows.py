"""Rows from every kind of file, and a word on the line that cannot be read."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.data.readers import csv_file, jsonl_file
from layerlens_core.data.rows import FileRows, ListedRows, open_rows
from layerlens_core.errors import DataError

#: Its own files are read without torch; what datasets reads is marked.
ROWS: list[dict[str, Any]] = [{"text": "first, “quoted”\nand broken", "label": "a"}, {"text": "second", "label": "b"}]


def read(source: str | Path, **options: Any) -> list[dict[str, Any]]:
    return list(open_rows(source, **options))


def test_jsonl_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    assert read(path) == ROWS
    path.write_text("\ufeff" + "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    assert read(str(path)) == ROWS


def test_json_files_hold_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert read(path) == ROWS


def test_a_json_file_may_be_one_array(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for text in (json.dumps(ROWS), "\ufeff \n" + json.dumps(ROWS, indent=2) + "\n"):
        path.write_text(text, encoding="utf-8")
        assert read(path) == ROWS
        assert open_rows(path).pick({1}) == {1: ROWS[1]}
    path.write_text("[]")
    assert read(path) == []


def test_an_array_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlens_core.data.readers.json_file.LARGEST_ARRAY", 20)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    with pytest.raises(DataError, match=r"is one array of over .* write one object a line"):
        read(path)


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
def test_packed_by_gzip_they_are_unpacked_on_the_way(tmp_path: Path, kind: str) -> None:
    wanted = [{"text": f"row {place}"} for place in range(300)]
    plain = written(tmp_path / f"rows{kind}", wanted)
    packed = tmp_path / f"rows{kind}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    rows = open_rows(packed)
    assert rows.typed == (kind != ".csv")
    assert list(rows) == wanted
    assert rows.pick({7, 299}) == {7: wanted[7], 299: wanted[299]}
    plain.unlink()
    assert list(open_rows(tmp_path)) == wanted  # of a directory too


def test_csv_is_read_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.CSV"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, fieldnames=["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    assert read(path) == ROWS


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == ROWS


def test_nested_messages_survive_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == rows


@pytest.mark.torch
def test_a_saved_dataset_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "flat")
    both = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "split")
    datasets.enable_progress_bars()
    capfd.readouterr()
    assert read(tmp_path / "flat") == ROWS
    assert read(str(tmp_path / "split")) == ROWS
    assert read(tmp_path / "split", split="test") == ROWS[:1]
    assert capfd.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()  # the caller's choice, put back
    with pytest.raises(DataError, match=r"no split 'dev'; it has: train, test"):
        read(tmp_path / "split", split="dev")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text" "y"}\n', r"a\.jsonl, line 2, is no JSON: .* at column 9"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', r"a\.jsonl, line 2, is a JSON array; each line must be one JSON object"),
        ("a.jsonl", b"17\n", r"line 1, is a JSON number"),
        ("a.jsonl", b"null\n", r"line 1, is a JSON null"),
        ("a.json", b'[\n  {"text": "x"},\n', r"a\.json, line 3, is no JSON.*must be one array of objects, or hold one"),
        ("a.json", b'[{"text": "x"}, ["y"]]', r"a\.json, entry 2, is a JSON array; each entry must be one JSON object"),
        ("a.json", b'[{"text": "x"}, {}]', r"a\.json, entry 2, is an object without a field"),
        ("a.json", b'[{"text": "\\ud83d"}]', r"a\.json, entry 1: field 'text' holds half of a character"),
        ("a.json", b'[{"text": "caf\xe9"}]', r"a\.json is not UTF-8 text: byte 15"),
        ("a.json", b"[" * 100_000, r"a\.json cannot be read: it is nested too deeply"),
        ("a.json", b'{"text" "x"}', r"a\.json, line 1, is no JSON.*each line must be one JSON object"),
        ("a.jsonl.gz", b"{}", r"a\.jsonl\.gz cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99, mtime=0)[:-9], r"a\.jsonl\.gz is damaged or cut off: "),
        ("a.csv.gz", gzip.compress(b"text\n" * 99, mtime=0)[:20] + b"..", r"a\.csv\.gz is damaged or cut off: "),
        ("a.parquet.gz", b"", r"a\.parquet\.gz is packed in a way that is not read; unpack it first"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"a\.jsonl is not UTF-8 text: line 1, byte 14"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "cat \\ud83d"}\n', r"line 2: field 'text' holds half of a character"),
        ("a.jsonl", b'{"text": "x", "m": [{"c": "\\uDFFF"}]}\n', r"line 1: field 'm' holds half of a character"),
        ("a.jsonl", b'{"\\u001b[2J": "\\ud83d"}\n', r"line 1: field '\\x1b\[2J' holds half of a character"),
        ("a.csv", b"%s,%s\n" % (b"n" * 5000, b"n" * 5000), "the header names 'n{100}' twice"),
        ("a.jsonl", b'{"a\\ud83d": 1}\n', r"line 1: field 'a.ud83d' holds half of a character"),
        ("a.jsonl", b'{"text": "x\x00"}\n', r"line 1, is no JSON"),
        ("a.jsonl", b"\x1f\x8b\x08\x00", r"a\.jsonl is not UTF-8 text: line 1"),
        ("a.jsonl", b"{}\n", r"line 1, is an object without a field"),
        ("a.jsonl", b"[" * 100_000, r"line 1, cannot be read: it is nested too deeply"),
        ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}", r"line 1, cannot be read: Exceeds the limit"),
        ("a.csv", b"text,text\nx,y\n", r"the header names 'text' twice"),
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
        read(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b"\n\n"), ("a.csv", b"text,label\n"), ("a.csv", b"")])
def test_a_file_without_rows_gives_none(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == []


@pytest.mark.torch
def test_a_directory_without_a_dataset_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"is neither a data file nor a dataset that can be loaded"):
        read(tmp_path)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "./nowhere", "/nowhere/at/all"])
def test_a_file_that_does_not_exist_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(DataError, match=rf"the data file {source} does not exist"):
        read(source)


# ------------------------------------------------------------------------------------- again, and in part


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_are_picked_by_their_place_without_the_others(tmp_path: Path, suffix: str) -> None:
    wanted = [{"text": f"row {place}"} for place in range(600)]
    rows = open_rows(written(tmp_path / f"rows{suffix}", wanted))
    for places in ({0}, {599, 3, 256}, set(range(200, 400)), set()):
        assert rows.pick(places) == {place: wanted[place] for place in places}
    assert list(rows) == list(rows) == wanted
    with pytest.raises(DataError, match="changed while it was read: row 601 is gone"):
        rows.pick({600})


def test_rows_in_memory_are_picked_too() -> None:
    assert ListedRows(ROWS).pick({1}) == {1: ROWS[1]}
    assert list(ListedRows(ROWS)) == ROWS


def test_only_csv_has_no_types(tmp_path: Path) -> None:
    assert not FileRows([tmp_path / "a.CSV"]).typed
    assert FileRows([tmp_path / "a.jsonl"]).typed


def test_a_field_of_csv_may_be_long_and_the_process_keeps_its_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows = [{"text": "x" * 300_000}]
    reading = iter(open_rows(written(tmp_path / "a.csv", rows)))
    assert next(reading) == rows[0]
    assert csv.field_size_limit() == before


def test_what_has_no_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_file, "LONGEST_LINE", 2**20)
    monkeypatch.setattr(csv_file, "LONGEST_FIELD", 2**20)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"text": "x" * 2**20}))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2, has over 1 MiB; is it one row a line\?"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_text('text\nx\n"' + "x" * 2**21)
    with pytest.raises(DataError, match="the row that begins in line 3 is no CSV: field larger than field limit"):
        read(tmp_path / "a.csv")


def test_parquet_with_text_that_is_not_utf8_names_the_row(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    raw = pyarrow.array([b"fine", b"caf\xe9", b"x"], type=pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    parquet.write_table(pyarrow.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 2, holds text that is not UTF-8"):
        read(tmp_path / "a.parquet")
    assert open_rows(tmp_path / "a.parquet").pick({0, 2}) == {0: {"text": "fine"}, 2: {"text": "x"}}


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns named 'text'"):
        read(tmp_path / "a.parquet")


# ------------------------------------------------------------------------------------------- directories


def test_a_directory_of_files_alike_is_read_as_one(tmp_path: Path) -> None:
    for name, row in (("b.jsonl", ROWS[1]), ("a.jsonl", ROWS[0])):
        written(tmp_path / name, [row])
    rows = open_rows(tmp_path)
    assert list(rows) == ROWS
    assert rows.pick({1}) == {1: ROWS[1]}
    assert open_rows(tmp_path).pick({1}) == {1: ROWS[1]}  # without having read them before


def test_of_files_named_after_splits_one_split_is_read(tmp_path: Path) -> None:
    for number, name in enumerate(("train-0.jsonl", "train-1.jsonl", "test.jsonl")):
        written(tmp_path / name, [{"text": str(number)}])
    assert [row["text"] for row in read(tmp_path)] == ["0", "1"]
    assert [row["text"] for row in read(tmp_path, split="test")] == ["2"]


def test_files_of_a_directory_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", ROWS)
    written(tmp_path / "b.jsonl", [{"prompt": "p", "completion": "c"}])
    with pytest.raises(
        DataError, match=r"a\.jsonl has text, label, b\.jsonl has prompt, completion; name one file with"
    ):
        read(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    written(tmp_path / "b.csv", ROWS)
    with pytest.raises(DataError, match=r"files of several kinds \(\.csv, \.jsonl\); name one with --data"):
        read(tmp_path)
