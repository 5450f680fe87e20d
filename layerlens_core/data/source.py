"""Where a model and data come from: what their names tell before anything heavy is imported."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from layerlens_core.data.readers.csv_file import csv_rows
from layerlens_core.data.readers.json_file import json_rows
from layerlens_core.data.readers.jsonl_file import jsonl_rows
from layerlens_core.data.readers.opened import GZIP, kind_of
from layerlens_core.data.readers.parquet_file import parquet_rows
from layerlens_core.errors import DataError, ModelError
from layerlens_core.files.json_text import parse


class Reader(Protocol):
    """Reads a file's rows, one after the other, each with its place, counted from 0.

    path: of the file.
    wanted: the places to give; None gives all. What is not wanted is passed over as cheaply as can be.

    Raises `DataError` with the line or row that cannot be read.
    """

    def __call__(self, path: Path, wanted: Collection[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]: ...


#: By ending, in small letters.
READERS: dict[str, Reader] = {".jsonl": jsonl_rows, ".json": json_rows, ".csv": csv_rows, ".parquet": parquet_rows}
#: Endings of packed files that nothing here unpacks, and kinds of which no packed ones are read.
_PACKED, _PACKED_ITSELF = (".bz2", ".xz", ".zst", ".zip"), (".parquet",)


def check_source(source: str) -> None:
    """Raises `ModelError` where a local path cannot be a model's; a hub id is checked when it is loaded."""
    path = Path(source)
    if _exists(source) is None:
        raise ModelError(f"{source[:100]!r} is no name of a model: a local directory or a hub id")
    if path.is_file():
        raise ModelError(f"the model {source} is a file; name its directory, the output of save_pretrained")
    if path.is_dir():
        _check_directory(path)
    elif path.exists():
        raise ModelError(f"the model {source} is neither a file nor a directory; name the output of save_pretrained")
    elif _means_a_path(source):
        raise ModelError(f"the model directory {source} does not exist")


def _check_directory(path: Path) -> None:
    if not (path / "config.json").exists():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"{path} is an adapter of PEFT, not a model; name {_base_of(path / 'adapter_config.json')}"
            )
        raise ModelError(f"the model directory {path} has no config.json; is it the output of save_pretrained?")
    # Reading a pipe would wait for ever.
    odd = next((p for p in path.iterdir() if p.exists() and not p.is_file() and not p.is_dir()), None)
    if odd is not None:
        raise ModelError(f"{odd} is neither a file nor a directory, so {path} is no output of save_pretrained")


def _base_of(config: Path) -> str:
    """The base model that an adapter names, in words."""
    try:
        base = parse(config.read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    return f"its base model: {base}" if isinstance(base, str) and base else "the base model that it was trained on"


def readable(path: Path) -> bool:
    """Whether a name says that a file holds rows: by its ending, or by the one before ``.gz``."""
    kind = kind_of(path)
    return kind in READERS and not (path.suffix.lower() == GZIP and kind in _PACKED_ITSELF)


def check_data(source: str) -> None:
    """Raises `DataError` where a local path cannot be data; the name of a dataset is checked when it is loaded."""
    path = Path(source)
    known = readable(path)
    exists = _exists(source)
    if exists is None:
        raise DataError(f"{source[:100]!r} is no name of data: a file, a directory or a dataset")
    if path.is_file() and (path.suffix.lower() in _PACKED or (path.suffix.lower() == GZIP and not known)):
        raise DataError(f"{path} is packed in a way that is not read; unpack it first")
    if path.is_file() and not known:
        raise DataError(f"{path} is not of a known kind; there are: {', '.join(READERS)}")
    if exists and not path.is_file() and not path.is_dir():
        raise DataError(f"{source} is neither a file nor a directory; save the rows to a file first")
    if not exists and (known or _means_a_path(source)):
        raise DataError(f"the data file {source} does not exist")


def _means_a_path(source: str) -> bool:
    """Whether a name that is not there was meant as a path, and not as a name on the hub."""
    return source.startswith((".", "/", "~"))


def _exists(source: str) -> bool | None:
    """Whether something is there; None where nothing can be named so (empty, too long, with a null character)."""
    if not source.strip():
        return None
    try:
        Path(source).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return None
    return Path(source).exists()
