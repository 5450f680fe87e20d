"""A file's content, from what is a file and no larger than it may be: a pipe would never end, and a device neither."""

import os
import stat
from pathlib import Path

from layerlens_core.errors import FileError
from layerlens_core.files.folders import reason

#: The largest document that is read, in bytes: the profile of a hundred thousand layers is smaller.
DOCUMENT_BYTES = 1 << 30


def read_file(path: Path, *, advice: str, most: int | None = DOCUMENT_BYTES) -> bytes:
    """All of a file.

    path: of the file.
    advice: what to do, for the message, such as ``is RUN the directory of a run?``.
    most: bytes that it may have; None for any number.

    Raises `FileError` where it is missing, no plain file, too large, or cannot be read.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path} cannot be read: it is no plain file; {advice}")
            if most is not None and status.st_size > most:
                raise FileError(
                    f"{path} cannot be read: its {status.st_size:,} bytes are more than the {most:,} that such a file "
                    f"may have; {advice}"
                )
            return file.read()
    except FileNotFoundError:
        raise FileError(f"{path} does not exist; {advice}") from None
    except IsADirectoryError:
        raise FileError(f"{path} cannot be read: it is a directory; {advice}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {reason(error)}; {advice}") from None
    except MemoryError:
        raise FileError(f"{path} cannot be read: it does not fit into memory; {advice}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer would wait for one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
