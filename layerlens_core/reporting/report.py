"""Write a run as one page that needs nothing else."""

import re
from pathlib import Path

from layerlens_core.errors import FileError
from layerlens_core.files.atomic import replacing

#: Controls and lone surrogates, which names in a run's files may hold and no page may.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def report(run: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write a self-contained HTML file of a run: what was decided and why, what it may gain, and what was measured.

    The page asks no host for anything, and a Content-Security-Policy holds it to that. It needs the extra ``report``,
    but neither the model nor torch. The same run gives the same page.

    run: directory with a profile and a plan; a trace and a comparison are shown where they are.
    out: the file.
    overwrite: replace it where it exists.

    Raises `FileError` where the run lacks a profile or a plan, is damaged, or holds files that do not belong together;
    where the file exists, or cannot be written; and where the extra is not installed.
    """
    from layerlens_core.reporting.charts import altair
    from layerlens_core.reporting.gather import gather
    from layerlens_core.reporting.page import page

    path = Path(out)
    check_target(path, overwrite=overwrite)
    altair()
    text = page(gather(Path(run)))
    with replacing(path) as file:
        file.write(_UNWRITABLE.sub("\ufffd", text))
    return path


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raises `FileError` where a report may not be written.

    path: of the file.
    overwrite: whether an existing file may be replaced.
    """
    if path.is_dir():
        raise FileError(f"{path} is a directory; name a file, such as {path / 'report.html'}")
    if path.exists() and not overwrite:
        raise FileError(f"{path} exists already; use --overwrite or another --out")
