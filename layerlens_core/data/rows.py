"""Rows from a file, a directory or a dataset, read as they are asked for, as often as needed. Never imports torch."""

import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field, frozen

from layerlens_core.data.readers.opened import kind_of
from layerlens_core.data.source import READERS, check_data, readable
from layerlens_core.errors import DataError, first_line, shown

Row = dict[str, Any]


class Rows(Protocol):
    """Rows that are read from the first one on, as often as they are asked for.

    typed: whether values have types; without (CSV), all of them are text, numbers and lists too.
    """

    @property
    def typed(self) -> bool: ...

    def __iter__(self) -> Iterator[Row]: ...

    def pick(self, places: Collection[int]) -> dict[int, Row]:
        """The rows at these places, which count from 0."""
        ...


@frozen
class ListedRows:
    """Rows that are in memory already, or in a dataset that reads each by its place."""

    rows: Sequence[Row]
    typed: bool = True

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            yield dict(row)

    def pick(self, places: Collection[int]) -> dict[int, Row]:
        """See `Rows.pick`."""
        return {place: dict(self.rows[place]) for place in places}


@define
class FileRows:
    """Rows of one file, or of several alike, one after the other.

    paths: of the files, all of one ending.
    counts: how many rows each holds, as far as they were read.
    """

    paths: Sequence[Path]
    counts: dict[Path, int] = field(factory=dict, init=False)

    @property
    def typed(self) -> bool:
        """See `Rows`."""
        return kind_of(self.paths[0]) != ".csv"

    def __iter__(self) -> Iterator[Row]:
        for path in self.paths:
            count = 0
            for _, row in self._read(path, None):
                count += 1
                yield row
            self.counts[path] = count

    def pick(self, places: Collection[int]) -> dict[int, Row]:
        """See `Rows.pick`."""
        found: dict[int, Row] = {}
        before = 0
        for path in self.paths:
            here = {place - before for place in places if place >= before}
            if path != self.paths[-1]:
                if path not in self.counts:
                    self.counts[path] = sum(1 for _ in self._read(path, None))
                here = {place for place in here if place < self.counts[path]}
            if here:
                found |= {before + place: row for place, row in self._read(path, here)}
            before += self.counts.get(path, 0)
        if missing := set(places) - found.keys():
            raise DataError(f"{self.paths[0]} changed while it was read: row {min(missing) + 1} is gone")
        return found

    def _read(self, path: Path, wanted: Collection[int] | None) -> Iterator[tuple[int, Row]]:
        try:
            yield from READERS[kind_of(path)](path, wanted)
        except (EOFError, zlib.error) as error:  # of gzip
            raise DataError(f"{path} is damaged or cut off: {first_line(error)}") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None


def open_rows(source: str | Path, *, split: str = "train") -> Rows:
    """The rows of a data source.

    source: a file, a directory that ``datasets`` saved or that holds data files, or a dataset's name on the hub.
    split: of a dataset that has several.

    Raises `DataError` where nothing is there, or where it is a directory whose files do not belong together.
    """
    check_data(str(source))
    path = Path(source)
    if path.is_file():
        return FileRows([path])
    if path.is_dir() and not any((path / name).exists() for name in _SAVED) and (files := _files_in(path, split)):
        return FileRows(files)
    return _dataset(path if path.is_dir() else source, split)


#: What `datasets` reads by rules of its own.
_SAVED = ("state.json", "dataset_dict.json", "README.md", "dataset_infos.json")


def _files_in(directory: Path, split: str) -> list[Path]:
    """The data files of a directory that belong to a split: those named after it, or all where none is named after any.

    Raises `DataError` where they are of several kinds, or begin with rows of other fields.
    """
    files = sorted(p for p in directory.iterdir() if readable(p) and p.is_file())
    named = [p for p in files if p.name.lower().startswith(split)]
    others = ("test", "valid", "dev", "eval")
    files = named or [p for p in files if not p.name.lower().startswith(others)] or files
    kinds = {kind_of(p) for p in files}
    if len(kinds) > 1:
        raise DataError(f"{directory} holds files of several kinds ({', '.join(sorted(kinds))}); name one with --data")
    fields = {p: next((list(row) for _, row in READERS[kind_of(p)](p)), None) for p in files}
    known = {p: names for p, names in fields.items() if names is not None}
    for path, names in known.items():
        first, expected = next(iter(known.items()))
        if set(names) != set(expected):
            here, there = (shown(", ".join(each), 100) for each in (expected, names))
            raise DataError(
                f"the files in {directory} hold unlike rows: {first.name} has {here}, {path.name} has {there}; name "
                "one file with --data"
            )
    return files


def _dataset(source: str | Path, split: str) -> Rows:
    try:
        import datasets
    except ImportError:
        raise DataError(f"{source} is no file; to read it as a dataset: pip install datasets") from None
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
    return ListedRows(data)
