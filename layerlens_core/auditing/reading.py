"""Files of a run, each by its own reader, whose error is a finding."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from layerlens_core.auditing.sheet import Sheet
from layerlens_core.errors import FileError, VersionError, brief

T = TypeVar("T")


def read(run: Path, name: str, load: Callable[[Path], T], sheet: Sheet) -> T | None:
    """What a file says; None where it is not there or cannot be read.

    run: the run's directory.
    name: of the file in it.
    load: its reader.
    sheet: for what is found.

    Raises `VersionError` for a file of another version.
    """
    if not (run / name).exists():
        return None
    try:
        found = load(run)
    except VersionError:
        raise
    except FileError as error:
        sheet.find(name, "", None, None, brief(error), "reader")
        return None
    sheet.tick(name, "by its own reader")
    return found
