"""What commands that run a model share: the run's directory, the trace, the progress bar."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import click

from layerlens_core import tracing
from layerlens_core.errors import FileError, ModelError, first_line
from layerlens_core.files import atomic
from layerlens_core.files.run import DIRECTIONS, FILES, PLAN, checkpoints
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile, versions

if TYPE_CHECKING:
    from layerlens_core.data.prepare import Prepared
    from layerlens_core.profiling.distributed.workers import Workers
    from layerlens_core.profiling.profile import Progress


def check_output(out: Path, overwrite: bool, resume: bool = False) -> None:
    """Refuse a directory that holds a run already, or one to resume. Raises `FileError`."""
    atomic.check_directory(out)
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise FileError(f"{out} already holds a run ({', '.join(there)}); use --overwrite or another --out")
    if checkpoints(out) and not (overwrite or resume):
        raise FileError(
            f"{out} holds a profile that was interrupted; --resume goes on with it, --overwrite begins anew"
        )


def is_first() -> bool:
    """Whether this process writes and prints; of those that torchrun started, one does."""
    return os.environ.get("WORLD_SIZE", "1").strip() == "1" or os.environ.get("RANK", "0").strip() == "0"


@contextmanager
def traced(run: Path, command: str, arguments: Mapping[str, Any], *, keep_profile: bool = False) -> Iterator[None]:
    """Write the trace of a command, from start to finish; nothing is written where it fails."""
    if not is_first():
        yield
        return
    from layerlens_core.plugin.registry import default

    started = time.monotonic()
    with tracing.to_file(run, run_id=uuid.uuid4().hex[:12], keep_profile=keep_profile):
        given = {key: value for key, value in arguments.items() if value not in (None, ()) and value is not False}
        plain = {key: list(value) if isinstance(value, tuple) else str(value) for key, value in given.items()}
        tracing.run_started(command, plain, versions())
        tracing.plugins_seen(default())
        yield
        tracing.run_finished(time.monotonic() - started)


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A bar with the time left on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and is_first())) as bar:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield report


def run_profile(
    model: str,
    *,
    metrics: Mapping[str, float],
    device: str | None,
    seed: int,
    group: int,
    micro_batch: int | Literal["auto"],
    scores: Literal["exact", "sketch", "auto"] = "exact",
    latency: bool = False,
    spectrum: bool = False,
    directions: Path | None = None,
    samples: int | tuple[Literal["auto"], int] = 128,
    out: Path | None = None,
    resume: bool = False,
    compile: bool = False,
    shard: bool = False,
    rehearse: Callable[["Prepared"], object] | None = None,
    **data: Any,
) -> Profile:
    """Load, draw and profile, with a progress bar; under torchrun, this process's share of it.

    directions: where to write the side file of singular vectors. samples: how many, or ``auto`` and at most how many.
    out: the run's directory, where it is written how far the work has come; resume: go on from there. shard: spread the
    model over the processes. rehearse: called between loading and the long work, to raise what would else be raised
    after it.
    """
    from layerlens_core.plugin.registry import default
    from layerlens_core.profiling.distributed.workers import by_torchrun, joined

    for name in metrics:
        default().get("metric", name)  # an unknown name should not cost the loading of the model
    count = samples if isinstance(samples, int) else samples[1]
    try:
        with joined(by_torchrun()) as workers:
            where = workers.agreed(lambda: choose_device(device, workers))
            prepared = workers.agreed(lambda: _prepare(model, rehearse, seed=seed, samples=count, **data))
            return _profile(
                prepared, where, workers, metrics=metrics, group=group, micro_batch=micro_batch, seed=seed,
                scores=scores, latency=latency, spectrum=spectrum, directions=directions, samples=samples, out=out,
                resume=resume, compile=compile, shard=shard,
            )  # fmt: skip
    except KeyboardInterrupt:
        if out is not None and checkpoints(out) and is_first():
            say("\ninterrupted; the same command with --resume goes on from where it was")
        raise


def _prepare(model: str, rehearse: Callable[["Prepared"], object] | None, **data: Any) -> "Prepared":
    from layerlens_core.data.prepare import prepare

    prepared = prepare(model, **data)
    if prepared.untrained and is_first():
        say(
            f"Warning: {model} has no {', '.join(prepared.untrained[:3])}{' …' if prepared.untrained[3:] else ''} "
            f"for {prepared.task}: {len(prepared.untrained)} tensors are random, and no plan trains them"
        )
    if rehearse is not None:
        rehearse(prepared)
    return prepared


def _profile(
    prepared: "Prepared",
    where: Any,
    workers: "Workers",
    *,
    metrics: Mapping[str, float],
    samples: int | tuple[Literal["auto"], int],
    out: Path | None,
    shard: bool,
    micro_batch: int | Literal["auto"],
    **options: Any,
) -> Profile:
    import torch

    from layerlens_core.inspection.inspect import inspect
    from layerlens_core.profiling.distributed import sharding
    from layerlens_core.profiling.profile import DEFAULT_METRICS, profile

    with progress_bar() as report:
        try:
            if shard:
                sharding.shard(prepared.model, inspect(prepared.model), where, workers)
            return profile(
                prepared.model if shard else prepared.model.to(where),
                prepared.samples,
                metrics=tuple(metrics) or DEFAULT_METRICS,
                task=prepared.task,
                micro_batch=micro_batch,
                labels=prepared.labels,
                samples="all" if isinstance(samples, int) else samples[0],
                run=out,
                workers=workers,
                progress=report,
                **options,
            )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{where} ran out of memory; use a smaller --micro-batch (it was {micro_batch}) or --max-length"
            ) from error


@contextmanager
def staging(wanted: bool) -> Iterator[Path | None]:
    """Where the side file lies until all went well; None where it is not wanted."""
    if not wanted:
        yield None
        return
    with TemporaryDirectory(prefix="layerlens-") as place:
        yield Path(place)


def save_profile(profile: Profile, out: Path, staged: Path | None) -> None:
    """Write a profile and its side file into the run; a side file of an earlier profile does not stay."""
    side = out / DIRECTIONS
    if staged is None:
        side.unlink(missing_ok=True)
    else:
        with atomic.replacing(side) as file, (staged / side.name).open("rb") as source:
            shutil.copyfileobj(source, file.buffer)
    profile.save(out)


def choose_device(device: str | None, workers: "Workers | None" = None) -> Any:
    """The device by that name, or a GPU where there is one; of several processes each gets its own.

    Raises `ModelError` where it is not there, or where several processes would share a GPU.
    """
    import torch

    together = workers is not None and not workers.alone
    if device is None and not torch.cuda.is_available():
        return torch.device("cpu")
    try:
        where: Any = torch.device(device or "cuda")
        if where.type == "meta":
            raise RuntimeError("it holds no data")
        if together and where.type == "cuda":
            if where.index is not None:
                raise RuntimeError("several processes cannot share it; --device cuda gives each its own")
            where = _own_gpu()
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"the device {device or 'cuda'} cannot be used: {first_line(error)}; leave --device out, or use cpu"
        ) from None
    return where


def _own_gpu() -> Any:
    """The GPU of this process, by its number on the machine."""
    import torch

    from layerlens_core.profiling.distributed.workers import local_rank

    if torch.cuda.is_available() and local_rank() >= torch.cuda.device_count():
        raise RuntimeError(
            f"process {local_rank()} here wants a GPU of its own, and there are {torch.cuda.device_count()}; "
            f"start with --nproc-per-node {torch.cuda.device_count()}"
        )
    where = torch.device("cuda", local_rank())
    torch.empty(0, device=where)  # before what would raise other errors without CUDA
    torch.cuda.set_device(where)
    return where


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results."""
    click.echo(text, err=True)


def print_result(planned: Plan, profile: Profile, run: Path, as_json: bool) -> None:
    """The plan as a table and a line on how to learn more, or as JSON."""
    if as_json:
        click.echo((run / PLAN).read_text(encoding="utf-8"), nl=False)
        return
    from layerlens_core.cli.tables import print_plan

    print_plan(planned, profile)
    say(f"the run lies in {run}; why a layer got what it got: layerlens explain {run} LAYER")
