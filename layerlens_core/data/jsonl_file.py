"""Rows of a file of JSON lines."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from layerlens_core.errors import DataError, shown
from layerlens_core.files.json_text import parse

#: Bytes of a line at most: a file without line ends is refused before it fills the memory.
LONGEST_LINE = 2**28
_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
_SURROGATE = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)


def jsonl_rows(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """See `layerlens_core.data.rows.Reader`. Blank lines are no rows."""
    last = None if wanted is None else max(wanted, default=-1)
    place = number = 0
    with path.open("rb") as file:
        while (last is None or place <= last) and (line := file.readline(LONGEST_LINE + 1)):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(f"{path}, line {number}, has over {LONGEST_LINE >> 20} MiB; is it one row a line?")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.isspace() or not line:
                continue
            if wanted is None or place in wanted:
                yield place, _row(line, path, number)
            place += 1


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: line {number}, byte {error.start + 1}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}, is no JSON: {error.msg} at column {error.colno}; each line must be one JSON object"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}, line {number}, cannot be read: {error}") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number}, is a JSON {_NAMES[type(row)]}; each line must be one JSON object, "
            'such as {"text": "…"}'
        )
    if not row:
        raise DataError(f"{path}, line {number}, is an object without a field; each must hold a row's fields")
    if _SURROGATE.search(line):
        _check_characters(row, path, number)
    return row


def _check_characters(row: dict[str, Any], path: Path, number: int) -> None:
    """Raises `DataError` where an escape stands for half a character, which no tokenizer takes."""
    for name, value in row.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise DataError(
                f"{path}, line {number}: field '{shown(name, 100)}' holds half of a character, {half} (a lone "
                "surrogate); write the character whole"
            ) from None
