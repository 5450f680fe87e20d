"""Rows of a JSON file: one array of objects, or an object a line."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from layerlens_core.data.readers.jsonl_file import SURROGATE, check_characters, jsonl_rows, row_of
from layerlens_core.data.readers.opened import opened
from layerlens_core.errors import DataError
from layerlens_core.files.json_text import parse

#: Bytes of an array at most: unlike lines, it is read as a whole.
LARGEST_ARRAY = 2**30
#: Bytes in which the first character that is no blank is looked for.
_BEGINNING = 2**16


def json_rows(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """See `layerlens_core.data.source.Reader`."""
    with opened(path) as file:
        beginning = file.read(_BEGINNING).removeprefix(b"\xef\xbb\xbf").lstrip()
    # A line that is an array of its own is no row; whether the file is one array, only its end tells.
    if not beginning.startswith(b"["):
        yield from jsonl_rows(path, wanted)
        return
    content = _content(path)
    escaped = SURROGATE.search(content) is not None
    for place, value in enumerate(_array(content, path)):
        if wanted is None or place in wanted:
            where = f"{path}, entry {place + 1}"
            row = row_of(value, where, of="entry")
            if escaped:
                check_characters(row, where)
            yield place, row


def _content(path: Path) -> bytes:
    with opened(path) as file:
        content: bytes = file.read(LARGEST_ARRAY + 1)
    if len(content) > LARGEST_ARRAY:
        raise DataError(f"{path} is one array of over {LARGEST_ARRAY >> 30} GiB; write one object a line (JSONL)")
    return content


def _array(content: bytes, path: Path) -> list[Any]:
    try:
        values = parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start + 1}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}, is no JSON: {error.msg} at column {error.colno}; the file must be one array "
            "of objects, or hold one object a line"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return list(values)
