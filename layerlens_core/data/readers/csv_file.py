"""Rows of a CSV file with a header."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from layerlens_core.data.readers.opened import opened
from layerlens_core.errors import DataError, shown

#: Characters of a field at most; csv's own limit, 131,072, is shorter than documents are. A quotation mark that is
#: never closed makes one field of all that follows.
LONGEST_FIELD = 2**26


def csv_rows(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """See `layerlens_core.data.rows.Reader`. Blank lines are no rows."""
    last = None if wanted is None else max(wanted, default=-1)
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        names = _next(reader, path)
        if names is None:
            return
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path}: the header names '{shown(twice, 100)}' twice; give every field a name of its own")
        place = 0
        while (last is None or place <= last) and (values := _next(reader, path)) is not None:
            if len(values) != len(names):
                raise DataError(
                    f"{path}: the row that ends in line {reader.line_num} does not have the {len(names)} fields of the "
                    "header"
                )
            if wanted is None or place in wanted:
                yield place, dict(zip(names, values, strict=True))
            place += 1


def _next(reader: Any, path: Path) -> list[str] | None:
    """The next row that is not blank, or None at the end."""
    begin = reader.line_num + 1  # all lines before it were read
    limit = csv.field_size_limit(LONGEST_FIELD)  # the whole process's, so it is put back
    try:
        for values in reader:
            if values:
                return list(values)
            begin = reader.line_num + 1
        return None
    except csv.Error as error:
        raise DataError(f"{path}: the row that begins in line {begin} is no CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: in or after line {begin}: {error.reason}") from None
    finally:
        csv.field_size_limit(limit)
