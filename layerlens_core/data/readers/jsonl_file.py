"""Rows of a file of JSON lines."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from layerlens_core.data.readers.opened import opened
from layerlens_core.errors import DataError, shown
from layerlens_core.files.json_text import parse

#: Bytes of a line at most: a file without line ends is refused before it fills the memory.
LONGEST_LINE = 2**28
_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
#: An escape that may stand for half a character.
SURROGATE = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)


def jsonl_rows(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """See `layerlens_core.data.rows.Reader`. Blank lines are no rows."""
    last = None if wanted is None else max(wanted, default=-1)
    place = number = 0
    with opened(path) as file:
        while (last is None or place <= last) and (line := file.readline(LONGEST_LINE + 1)):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(f"{path}, line {number}, has over {LONGEST_LINE >> 20} MiB; is it one row a line?")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.isspace() or not line:
                continue
            if wanted is None or place in wanted:
                yield place, _row(line, f"{path}, line {number}")
            place += 1


def row_of(value: Any, where: str, *, of: str = "line") -> dict[str, Any]:
    """A row, which is an object with fields.

    value: what JSON gave.
    where: it stands, for the error.
    of: what holds one row, for the error.

    Raises `DataError` where it is anything else.
    """
    if not isinstance(value, dict):
        raise DataError(
            f'{where}, is a JSON {_NAMES[type(value)]}; each {of} must be one JSON object, such as {{"text": "…"}}'
        )
    if not value:
        raise DataError(f"{where}, is an object without a field; each must hold a row's fields")
    return value


def check_characters(row: dict[str, Any], where: str) -> None:
    """Raises `DataError` where an escape stands for half a character, which no tokenizer takes.

    row: to be read.
    where: it stands, for the error.
    """
    for name, value in row.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise DataError(
                f"{where}: field '{shown(name, 100)}' holds half of a character, {half} (a lone surrogate); write the "
                "character whole"
            ) from None


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        path, _, number = where.rpartition(", ")
        raise DataError(f"{path} is not UTF-8 text: {number}, byte {error.start + 1}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}, is no JSON: {error.msg} at column {error.colno}; each line must be one JSON object"
        ) from None
    except ValueError as error:
        raise DataError(f"{where}, cannot be read: {error}") from None
    row = row_of(value, where)
    if SURROGATE.search(line):
        check_characters(row, where)
    return row
