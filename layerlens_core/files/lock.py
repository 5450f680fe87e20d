"""One writer at a time: a lock on a directory. It is the system's, so it ends with its process, however that ends."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerlens_core.errors import FileError
from layerlens_core.files.folders import make_directory, reason, remove_empty

if sys.platform != "win32":
    import fcntl

#: Directories that this process has locked, by device and inode, with how many times.
_held: dict[tuple[int, int], int] = {}


class BusyError(FileError):
    """Another process writes the directory."""


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Hold the lock of a directory, which is made where it is missing, and taken away again where it stays empty.

    A process that holds it may take it again. Gives whether it is held: some file systems of networks know no locks.

    Raises `BusyError` where another process holds it, and `FileError` where there can be no such directory.
    """
    made = make_directory(directory)
    try:
        with _holding(directory) as held:
            yield held
    finally:
        remove_empty(made)


def is_held(directory: Path) -> bool:
    """Whether this process holds the directory's lock."""
    try:
        status = os.stat(directory)
    except (OSError, ValueError):
        return False
    return (status.st_dev, status.st_ino) in _held


@contextmanager
def _holding(directory: Path) -> Iterator[bool]:
    descriptor = _locked_descriptor(directory)
    if descriptor is None:
        yield False
        return
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    _held[key] = _held.get(key, 0) + 1
    try:
        yield True
    finally:
        _held[key] -= 1
        if not _held[key]:
            del _held[key]
        os.close(descriptor)


def _locked_descriptor(directory: Path) -> int | None:
    """An open directory that is locked by it, or by an earlier one of this process; None where there are no locks."""
    if sys.platform == "win32":
        return None
    while True:
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise FileError(f"{directory} cannot be used: {reason(error)}") from None
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in _held:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BusyError(
                    f"{directory} is being written by another process; wait for it to end, or use another directory"
                ) from None
            return None
        with suppress(OSError):  # whoever held it before may have removed it, or another may lie there now
            if os.path.samestat(os.stat(directory), status):
                return descriptor
        os.close(descriptor)
        directory.mkdir(parents=True, exist_ok=True)
