"""Readers of rows in JSONL, CSV and Parquet, up to the tokens that are profiled.

Accepted is what means the same three times: rows and tokens as they are read, rows as a plain reader of the format
gives them (Python's json and csv, PyArrow's whole table), and tokens of these rows once they are written anew.
"""

import copy
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mutation.content import Mutation, as_lines, bytewise
from mutation.readers import Reader, as_text

#: Texts of the words that the tiny tokenizer knows, and of some that it does not.
TEXTS = ("the red cat sees a small dog", "a bird sings", "naïve — “quoted”, 数字 12", "the dog and the cat run")
#: The rows of each valid file.
ROWS = {
    "rows.jsonl": [{"text": text} for text in TEXTS],
    "rows.csv": [{"text": text, "label": str(at % 2)} for at, text in enumerate(TEXTS)],
    "rows.parquet": [{"text": text} for text in TEXTS],
}


def jsonl_reader(root: Path) -> Reader:
    """``--data FILE.jsonl``."""
    return _rows(root, "rows.jsonl", _write_jsonl, _plain_jsonl, (as_lines, as_lines, bytewise))


def csv_reader(root: Path) -> Reader:
    """``--data FILE.csv``."""
    return _rows(root, "rows.csv", _write_csv, _plain_csv, (bytewise,))


def parquet_reader(root: Path) -> Reader:
    """``--data FILE.parquet``."""
    return _rows(root, "rows.parquet", _write_parquet, _plain_parquet, (bytewise,))


def _write_jsonl(path: Path, rows: Sequence[Any]) -> None:
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _plain_jsonl(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().decode("utf-8-sig").split("\n") if line.strip()]


def _write_csv(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _plain_csv(path: Path) -> list[Any]:
    limit = csv.field_size_limit(2**26)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names, *rows = (values for values in csv.reader(file) if values)
            return [dict(zip(names, values, strict=True)) for values in rows]
    finally:
        csv.field_size_limit(limit)


def _write_parquet(path: Path, rows: Sequence[Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def _plain_parquet(path: Path) -> list[Any]:
    from pyarrow import parquet

    rows: list[Any] = parquet.read_table(path).to_pylist()
    return rows


def _rows(
    root: Path,
    name: str,
    write: Callable[[Path, Sequence[Any]], None],
    plain: Callable[[Path], list[Any]],
    how: Sequence[Mutation],
) -> Reader:
    """A reader of rows, up to the tokens that are profiled."""
    import zoo
    from layerlens_core.data import prepare as preparing
    from layerlens_core.data.prepare import DataOptions
    from layerlens_core.data.rows import open_rows
    from zoo.words import TEMPLATES, tokenizer

    folder, model = root / Path(name).suffix[1:], root / "model"
    if not folder.exists():
        folder.mkdir()
        write(folder / name, ROWS[name])
    if not model.exists():
        zoo.build("llama-words", spread=0.2).save_pretrained(model)
        tokenizer(TEMPLATES["llama-words"]).save_pretrained(model)
    loaded: dict[str, Any] = {}
    real = preparing.load  # type: ignore[attr-defined]

    def once(source: str, task: Any, **options: Any) -> Any:
        """The model, loaded once for a task: what is changed here is the data."""
        key = f"{task} {options.get('labels')}"
        if key not in loaded:
            loaded.clear()
            loaded[key] = real(source, task, **options)
        return loaded[key]

    def read(place: Path) -> dict[str, Any]:
        found = prepared(str(place / name))
        rows = [copy.deepcopy(row) for row in open_rows(place / name)]
        if not as_text(rows, plain(place / name)):
            raise AssertionError("other rows are read than a plain reader gives")
        return {"rows": rows, **found}

    def prepared(data: Any) -> dict[str, Any]:
        preparing.load = once  # type: ignore[attr-defined]
        try:
            found = preparing.prepare(str(model), data, DataOptions(max_length=32))
        finally:
            preparing.load = real  # type: ignore[attr-defined]
        samples = [{key: value.tolist() for key, value in sample.items()} for sample in found.samples]
        return {"task": found.task, "labels": list(found.labels), "samples": samples}

    def again(found: Any, place: Path) -> dict[str, Any]:
        write(place / name, found["rows"])
        return {"rows": found["rows"], **prepared(str(place / name))}

    return Reader(folder=folder, targets={name: how}, read=read, same=as_text, again=again)
