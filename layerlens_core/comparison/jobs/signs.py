"""Small files by which processes, also of several hosts, know of each other: made, locked, read and taken away.

Whatever is read here another process may take away between a look and a use, as several that share a comparison end at
the same moment.
"""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from layerlens_core.errors import FileError
from layerlens_core.files.folders import reason

if sys.platform != "win32":
    import fcntl

#: What the system says of a file that was taken away, here or by another host of a network's disk.
_AWAY = {errno.ENOENT, errno.ESTALE}


def made_locked(path: Path) -> TextIO:
    """Make a file that is locked before anybody sees it; closing it ends its lock. Raises `FileError`.

    Until then it is a draft, with a dot before its name; another process may take that for a killed one's.
    """
    draft = path.with_name(f".{path.name}")
    while True:
        try:
            file = open(draft, "x")  # noqa: SIM115 - the caller's to close
        except OSError as error:
            raise FileError(f"{path} cannot be written: {reason(error)}") from None
        try:
            _lock(file)
            os.replace(draft, path)
        except FileNotFoundError:  # the draft was taken away: another one
            file.close()
        except OSError as error:
            file.close()
            raise FileError(f"{path} cannot be written: {reason(error)}") from None
        else:
            return file


def _lock(file: TextIO) -> None:
    """Lock a file until it is closed, where the system can."""
    if sys.platform == "win32":
        file.close()  # an open file could not be renamed
        return
    with suppress(OSError):  # some file systems of networks know no locks
        fcntl.flock(file, fcntl.LOCK_EX)


def is_unlocked(path: Path) -> bool:
    """Whether a process of this host that had made a file has ended; False where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        file = open(path)  # noqa: SIM115 - closed below
    except ValueError:  # no name that a file could have
        return True
    except OSError as error:
        return is_away(path, error)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def remove(path: Path) -> None:
    """Take a file away, unless another process was first."""
    try:
        path.unlink()
    except OSError as error:
        is_away(path, error)


def is_away(path: Path, error: OSError) -> bool:
    """Whether an error says that a file was taken away. Raises `FileError` where it is there and cannot be used.

    path: of the file.
    error: what the system said of it.
    """
    if error.errno not in _AWAY:
        raise FileError(f"{path} cannot be used: {reason(error)}") from None
    return True


def listed(directory: Path) -> list[str]:
    """The names in a directory, in order; none where it is missing."""
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        is_away(directory, error)
        return []
