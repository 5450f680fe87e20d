"""Read rows from JSONL, CSV, Parquet, or a datasets directory or name. Never imports torch."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layerlens_core.data.source import check_data
from layerlens_core.errors import DataError, first_line
from layerlens_core.files.json_text import parse

Row = dict[str, Any]
_JSON_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def read_rows(source: str | Path, *, split: str = "train") -> list[Row]:
    """All rows of a data source.

    source: a file, a directory that ``datasets`` saved, or a dataset's name on the hub.
    split: of a dataset that has several.

    Raises `DataError` where nothing is there, where it is empty, or where a line cannot be read (with its number).
    """
    check_data(str(source))
    path = Path(source)
    if path.is_file():
        readers = {".jsonl": _jsonl, ".json": _jsonl, ".csv": _csv, ".parquet": _parquet}
        rows = list(readers[path.suffix.lower()](path))
    elif path.is_dir():
        rows = _dataset(path, split)
    else:
        rows = _dataset(source, split)
    if not rows:
        raise DataError(f"{source} holds no rows")
    return rows


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _json_row(line, path, number)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text: {error}") from None


def _json_row(line: str, path: Path, number: int) -> Row:
    try:
        row = parse(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}, is no JSON: {error.msg} at column {error.colno}; each line must be one JSON object"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}, line {number}, cannot be read: {error}") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number}, is a JSON {_JSON_NAMES[type(row)]}; each line must be one JSON object, "
            'such as {"text": "…"}'
        )
    return row


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}: the row that ends in line {reader.line_num} does not have the "
                        f"{len(reader.fieldnames or ())} fields of the header"
                    )
                yield dict(row)
        except csv.Error as error:
            begin = reader.line_num + 1  # all lines before it were read
            raise DataError(f"{path}: the row that begins in line {begin} is no CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text: {error}") from None


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"reading {path} needs pyarrow: pip install 'layerlens-core[data]'") from None
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file: {first_line(error)}") from None
    return rows


def _dataset(source: str | Path, split: str) -> list[Row]:
    try:
        import datasets
    except ImportError:
        raise DataError(f"{source} is no file; to read it as a dataset: pip install 'layerlens-core[data]'") from None
    had_progress_bars = datasets.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        is_saved = isinstance(source, Path) and (
            (source / "state.json").exists() or (source / "dataset_dict.json").exists()
        )
        data = datasets.load_from_disk(str(source)) if is_saved else datasets.load_dataset(str(source))
    except Exception as error:
        raise DataError(
            f"{source} is neither a data file nor a dataset that can be loaded: {first_line(error)}"
        ) from error
    finally:
        if had_progress_bars:
            datasets.enable_progress_bars()
    if isinstance(data, dict):
        if split not in data:
            raise DataError(f"the dataset {source} has no split {split!r}; it has: {', '.join(data)}")
        data = data[split]
    return [dict(row) for row in data]
