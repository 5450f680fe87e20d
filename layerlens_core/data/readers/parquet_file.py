"""Rows of a Parquet file."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from layerlens_core.errors import DataError, first_line, shown

#: Rows that are in memory at a time. Rows may be documents.
_BATCH = 256


def parquet_rows(path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """See `layerlens_core.data.rows.Reader`."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"reading {path} needs pyarrow: pip install pyarrow") from None
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:  # of damaged files pyarrow raises many kinds
        raise DataError(f"{path} is no Parquet file: {first_line(error)}") from None
    with file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path} has two columns named '{shown(twice, 100)}'; give every field a name of its own")
        last = None if wanted is None else max(wanted, default=-1)
        place = 0
        batches = file.iter_batches(batch_size=_BATCH)
        while last is None or place <= last:
            try:
                batch = next(batches, None)
            except Exception as error:
                raise DataError(f"{path} is damaged after row {place}: {first_line(error)}") from None
            if batch is None:
                return
            offsets = [o for o in range(batch.num_rows) if wanted is None or place + o in wanted]
            yield from zip((place + o for o in offsets), _rows(batch, offsets, path, place), strict=True)
            place += batch.num_rows


def _rows(batch: Any, offsets: list[int], path: Path, place: int) -> Iterator[dict[str, Any]]:
    """Rows of a batch that begins at a place of the file: all at once, or one by one to find which cannot be read."""
    if len(offsets) == batch.num_rows:
        try:
            rows = batch.to_pylist()
        except Exception:  # said again below, of the row alone
            rows = None
        if rows is not None:
            yield from rows
            return
    for offset in offsets:
        try:
            row: dict[str, Any] = batch.slice(offset, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, row {place + offset + 1}, holds text that is not UTF-8: {error.reason}") from None
        except Exception as error:
            raise DataError(f"{path}, row {place + offset + 1}, cannot be read: {first_line(error)}") from None
        yield row
