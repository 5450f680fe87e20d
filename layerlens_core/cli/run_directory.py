"""A run's directory, as commands write it: checked, traced, and complete or not at all."""

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from layerlens_core import tracing
from layerlens_core.cli.terminal import is_first, say
from layerlens_core.errors import FileError
from layerlens_core.files.atomic import check_directory, replacing
from layerlens_core.files.run import DIRECTIONS, FILES, PLAN, checkpoints
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile, versions


def check_output(out: Path, overwrite: bool, resume: bool = False) -> None:
    """Raises `FileError` where a directory holds a run already, or one to resume, and may not be written to."""
    check_directory(out)
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise FileError(f"{out} already holds a run ({', '.join(there)}); use --overwrite or another --out")
    if checkpoints(out) and not (overwrite or resume):
        raise FileError(
            f"{out} holds a profile that was interrupted; --resume goes on with it, --overwrite begins anew"
        )


@contextmanager
def traced(run: Path, command: str, arguments: Mapping[str, Any], *, keep_profile: bool = False) -> Iterator[None]:
    """Write the trace of a command, from start to finish; nothing is written where it fails."""
    if not is_first():
        yield
        return
    from layerlens_core.plugin.registry import default

    started = time.monotonic()
    with tracing.to_file(run, run_id=uuid.uuid4().hex[:12], keep_profile=keep_profile):
        # Whether code that came with the model ran is told either way.
        given = {
            key: value
            for key, value in arguments.items()
            if value not in (None, ()) and (value is not False or key == "trust_remote_code")
        }
        plain = {key: list(value) if isinstance(value, tuple) else str(value) for key, value in given.items()}
        tracing.run_started(command, plain, versions())
        tracing.plugins_seen(default())
        yield
        tracing.run_finished(time.monotonic() - started)


@contextmanager
def staging(wanted: bool) -> Iterator[Path | None]:
    """A directory for the side file until all has gone well; None where it is not wanted."""
    if not wanted:
        yield None
        return
    with TemporaryDirectory(prefix="layerlens-") as place:
        yield Path(place)


def save_profile(profile: Profile, out: Path, staged: Path | None) -> None:
    """Write a profile and its side file into the run; a side file of an earlier profile is removed."""
    side = out / DIRECTIONS
    if staged is None:
        side.unlink(missing_ok=True)
    else:
        with replacing(side) as file, (staged / side.name).open("rb") as source:
            shutil.copyfileobj(source, file.buffer)
    profile.save(out)


def print_result(planned: Plan, profile: Profile, run: Path, as_json: bool) -> None:
    """The plan as a table and a line on how to learn more, or as JSON."""
    if as_json:
        click.echo((run / PLAN).read_text(encoding="utf-8"), nl=False)
        return
    from layerlens_core.allocation.explanation import without_margins
    from layerlens_core.cli.tables import print_plan

    print_plan(planned, profile, without_margins=without_margins(run))
    say(f"the run lies in {run}; why a layer got what it got: layerlens explain {run} LAYER")
