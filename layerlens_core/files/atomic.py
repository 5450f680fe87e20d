"""Files and directories that are written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from layerlens_core.errors import FileError


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of ``path`` only once it is complete; an exception leaves the old one there.

    Raises `FileError` where the directory cannot be written to.
    """
    check_directory(path.parent)
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        for folder in missing:
            with suppress(OSError):  # somebody else put something there
                folder.rmdir()
        raise


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """A directory, beside ``path``, whose files move into ``path`` once all of them are complete.

    Other files in ``path`` stay; an exception leaves ``path`` as it was. Raises `FileError` where nothing can be
    written.
    """
    check_directory(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path, prefix=".partial-"))
    except OSError as error:
        raise FileError(f"{path} cannot be written to: {error.strerror}") from None
    try:
        yield staging
        for file in sorted(staging.iterdir()):
            os.chmod(file, 0o666 & ~_umask())  # safetensors keeps its files to their owner
            os.replace(file, path / file.name)
        staging.rmdir()
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # somebody else put something there
                folder.rmdir()
        raise


def check_directory(path: Path) -> None:
    """Raises `FileError` where there cannot be a directory by this name, since it or a parent is a file."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise FileError(f"{place} is a file; --out must name a directory")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
