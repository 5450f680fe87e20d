"""A run's directory, as commands write it: checked, locked, traced, and replaced as a whole or not at all."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from layerlens_core import tracing
from layerlens_core.cli.terminal import is_first, result_json, say
from layerlens_core.errors import FileError
from layerlens_core.files.atomic import NEW, writing
from layerlens_core.files.folders import check_directory
from layerlens_core.files.run import FILES, OF_PROFILE, PLAN, PROFILE, TRACE, bring_along, checkpoints, rewriting
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile, here, versions


def check_output(out: Path, overwrite: bool, resume: bool = False) -> None:
    """Raises `FileError` where a directory holds a run already, or one to resume, and may not be written to."""
    check_directory(out)
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        held = f"{out} already holds a run ({', '.join(there)})"
        if checkpoints(out):
            raise FileError(
                f"{held}, and the profile of another that was interrupted; --overwrite --resume goes on with that, "
                "--overwrite begins anew"
            )
        profiled = PROFILE in there and PLAN not in there
        plan = f", or plan from its profile, which is complete: layerlens allocate {out}" if profiled else ""
        raise FileError(f"{held}; use --overwrite or another --out{plan}")
    if checkpoints(out) and not (overwrite or resume):
        raise FileError(
            f"{out} holds a profile that was interrupted; --resume goes on with it, --overwrite begins anew"
        )


def same_directory(one: Path, other: Path) -> bool:
    """Whether two paths lead to one directory."""
    return one.resolve() == other.resolve()


def model_of(run: Path, given: str | None) -> str:
    """The model that a command is to load.

    run: the run's directory.
    given: by the user; None for the one that the run was profiled on, as its trace has it.

    Raises `FileError` where the trace does not tell, or the model is no longer there.
    """
    if given is not None:
        return given
    started = tracing.read(run)[0] if (run / TRACE).exists() else {}
    model = started.get("arguments", {}).get("model")
    if not isinstance(model, str):
        raise FileError(f"{run} does not tell which model it was profiled on; give --model")
    if Path(model).is_absolute() and not Path(model).is_dir():
        raise FileError(f"{run} was profiled on {model}, which is not there; give --model")
    return model


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Let no other process write a run between reading it and writing it anew. Raises `FileError`."""
    with writing(run) if run.is_dir() else nullcontext():
        yield


@contextmanager
def writing_run(
    run: Path, command: str, arguments: Mapping[str, Any], *, profiled: Path | None = None
) -> Iterator[Path]:
    """Write a run with the trace of a command; where it fails, the run stays as it was.

    run: its directory, which no other process writes meanwhile.
    command: its name.
    arguments: as they were given.
    profiled: the run whose profile is planned from, the same or another: what profiling logged there is kept, and of
        another all that belongs to its profile comes along, so that the new run stands by itself.

    Gives a directory to save into; what lies there at the end becomes the run
    (`layerlens_core.files.run.rewriting`). Of several processes the first one writes.

    Raises `FileError` where another process writes it, or it cannot be written.
    """
    if not is_first():
        yield run / NEW
        return
    from layerlens_core.plugin.registry import default

    started = time.monotonic()
    with (
        rewriting(run) as staging,
        tracing.to_file(profiled or run, run_id=uuid.uuid4().hex[:12], keep_profile=profiled is not None, into=staging),
    ):
        if profiled is not None and not same_directory(profiled, run):
            bring_along(profiled, OF_PROFILE, staging)
        # Whether code that came with the model ran is told either way.
        given = {
            key: value
            for key, value in arguments.items()
            if value not in (None, ()) and (value is not False or key == "trust_remote_code")
        }
        plain = {key: list(value) if isinstance(value, tuple) else str(value) for key, value in given.items()}
        tracing.run_started(command, plain, versions() | here())
        tracing.plugins_seen(default())
        yield staging
        tracing.run_finished(time.monotonic() - started)


def print_result(planned: Plan, profile: Profile, run: Path, as_json: bool) -> None:
    """The plan as a table and a line on how to learn more, or as JSON."""
    if as_json:
        result_json((run / PLAN).read_text(encoding="utf-8"))
        return
    from layerlens_core.allocation.explanation import without_margins
    from layerlens_core.allocation.margins import lacks_margins
    from layerlens_core.cli.tables import print_plan

    print_plan(planned, profile, without_margins=without_margins(run) if lacks_margins(planned.decisions) else None)
    say(f"the run lies in {run}; why a layer got what it got: layerlens explain {run} LAYER")
