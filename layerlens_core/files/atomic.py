"""Files, and several files of a directory together, are written whole or not at all, also by a process that is killed.

What is to be written into a directory is gathered in `NEW`, a directory inside it. Renaming that to `DONE`, in one
step, decides: before, all is as it was; after it the change is made, by this process or by the next one that reads or
writes there. Every step of that can be repeated. A file that is to go away is gathered as an empty one of its name with
`GONE` added.
"""

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from layerlens_core.errors import FileError, first_line
from layerlens_core.files.folders import make_directory, reason, remove_empty
from layerlens_core.files.lock import BusyError, is_held, locked

NEW, DONE, GONE = ".layerlens-new", ".layerlens-done", ".layerlens-gone"
#: How `replacing` names a file that is not complete.
_HALF = re.compile(
    r"\.((profile|plan|recipe|gains)\.json|trace\.jsonl|directions\.safetensors|profile\.partial.*)\.\w{8}"
)
#: What the system says where a disk is full, broken or read-only.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
#: Seconds to wait for another process that is just renaming its files.
_PATIENCE = 10.0


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of ``path`` only once it is complete; an exception leaves the old one there.

    Raises `FileError` where it cannot be written.
    """
    missing = make_directory(path.parent)
    name = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        remove_empty(missing)
        if isinstance(error, OSError):
            raise FileError(f"{path} cannot be written: {reason(error)}") from None
        raise


@contextmanager
def filling(directory: Path, *, lazily: bool = False) -> Iterator[Path]:
    """A directory whose files take their places in ``directory`` together, at the end; others stay as they are.

    It need not hold all files: `discard` says which go away. An exception leaves ``directory`` as it was. What a killed
    process left there is settled before.

    directory: to fill; made where it is missing.
    lazily: whoever writes first makes the directory that is given, so that a long work that is killed leaves nothing.

    Raises `FileError` where another process writes there, or nothing can be written.
    """
    with writing(directory):
        staging = directory / NEW
        try:
            if not lazily:
                make_directory(staging)
            yield staging
            if not staging.exists():
                return
            _decide(staging)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if (why := _why_unwritable(error)) is not None:
                raise FileError(f"{directory} cannot be written to: {why}; it is as it was") from None
            if type(error) is FileError and str(staging) in str(error):  # people know the file by its own place
                raise FileError(str(error).replace(str(staging), str(directory))) from None
            raise
        try:
            _move(directory)
        except KeyboardInterrupt:
            _move(directory)
            raise
        except OSError as error:
            raise FileError(
                f"{directory} is changed in part: {reason(error)}; the next command that reads it goes on"
            ) from None


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Hold a directory's lock (`layerlens_core.files.lock.locked`), with nothing of killed processes left in it."""
    own = is_held(directory)
    with locked(directory) as held:
        if not own:
            _finish(directory, certain=held)
        yield


def discard(staging: Path, names: Iterable[str]) -> None:
    """Say that these files of the directory go away in the change that is gathered."""
    for name in names:
        (staging / f"{name}{GONE}").touch()


def settle(directory: Path) -> None:
    """Finish the change that a killed process had decided on, and remove what it had only begun.

    Does nothing where another process is at work there, but waits for one that is changing files right now.

    Raises `FileError` where a change is left unfinished and cannot be finished.
    """
    if is_held(directory):
        return  # what lies there is this process's own
    until = time.monotonic() + _PATIENCE
    while _left(directory):
        try:
            with locked(directory) as held:
                _finish(directory, certain=held)
            return
        except BusyError:
            if not (directory / DONE).exists():
                return
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _finish(directory: Path, *, certain: bool) -> None:
    """As `settle`, with the directory locked.

    certain: whether it really is; another process's work is not taken for a dead one's.
    """
    try:
        if (directory / DONE).exists():
            _move(directory)
        for path in _left(directory) if certain else ():
            _clear(path)
    except OSError as error:
        if (directory / DONE).exists():
            raise FileError(
                f"{directory} is changed in part, and the rest cannot be done: {reason(error)}; "
                "allow writing there, or make the run anew"
            ) from None
        # What else lies there is in nobody's way.


def _left(directory: Path) -> list[Path]:
    """What a process that was killed, or is at work, left there."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [directory / name for name in sorted(names) if name in (NEW, DONE) or _HALF.fullmatch(name)]


def _why_unwritable(error: BaseException) -> str | None:
    """Why a file could not be written, where an error says that; others may be of what was read meanwhile."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return reason(error)
    # safetensors has an error of its own for what the system says.
    system = type(error).__name__ == "SafetensorError" and re.search(r"[Ii]/?[Oo] ?[Ee]rror", str(error))
    return first_line(error) if system else None


def _decide(staging: Path) -> None:
    """Rename what was gathered, once all of it is on the disk."""
    mode = 0o666 & ~_umask()
    for file in staging.iterdir():
        if file.is_file():
            os.chmod(file, mode)  # safetensors keeps its files to their owner
        _synced(file)
    _synced(staging)
    os.rename(staging, staging.with_name(DONE))
    _synced(staging.parent)


def _move(directory: Path) -> None:
    """Make the change that was decided on."""
    done = directory / DONE
    for file in sorted(done.iterdir()):
        with suppress(FileNotFoundError):  # where there are no locks, another process may do the same
            if file.name.endswith(GONE):
                (directory / file.name.removesuffix(GONE)).unlink(missing_ok=True)
                file.unlink()
            else:
                os.replace(file, directory / file.name)
    _synced(directory)
    with suppress(FileNotFoundError):
        done.rmdir()


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot for directories
            raise
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
