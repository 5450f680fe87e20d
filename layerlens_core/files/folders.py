"""Directories to write to: made with their parents, checked, and taken away again where nothing came into them."""

from contextlib import suppress
from pathlib import Path

from layerlens_core.errors import FileError


def make_directory(path: Path) -> list[Path]:
    """Make a directory with its parents; returns those that were missing, the innermost first. Raises `FileError`."""
    check_directory(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        remove_empty(missing)
        raise FileError(f"{path} cannot be made: {reason(error)}") from None
    return missing


def check_directory(path: Path) -> None:
    """Raises `FileError` where there cannot be a directory by this name, since it or a parent is a file."""
    for place in (path, *path.parents):
        try:
            there = place.exists() and not place.is_dir()
        except OSError as error:  # a name that is too long, a directory that must not be looked into
            raise FileError(f"{place} cannot be used: {reason(error)}") from None
        if there:
            raise FileError(f"{place} is a file; --out must name a directory")


def remove_empty(folders: list[Path]) -> None:
    """Remove directories that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError, ValueError):  # something lies in it
            folder.rmdir()


def reason(error: OSError | ValueError) -> str:
    """Why the system refused, in words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
