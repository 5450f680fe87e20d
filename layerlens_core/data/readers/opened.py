"""A data file opened to be read, unpacked on the way where its name says that it is packed by gzip."""

import gzip
from pathlib import Path
from typing import IO, Any, Literal

#: The ending of a file that is unpacked while it is read.
GZIP = ".gz"


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, in small letters: ``.jsonl`` of ``rows.jsonl.gz``.

    path: of the file.
    """
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending == GZIP else ending


def opened(path: Path, mode: Literal["rb", "rt"] = "rb", **options: Any) -> IO[Any]:
    """The file, unpacked.

    path: of the file.
    mode: for bytes or for text.
    options: of `open`, for text.
    """
    opening: Any = gzip.open if path.suffix.lower() == GZIP else open
    file: IO[Any] = opening(path, mode, **options)
    return file
