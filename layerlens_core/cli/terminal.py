"""What commands show to people while they run; of several processes, only one shows it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from layerlens_core.profiling.profile import Progress


def is_first() -> bool:
    """Whether this process writes and prints: it is the first of those that torchrun started, or the only one."""
    return os.environ.get("WORLD_SIZE", "1").strip() == "1" or os.environ.get("RANK", "0").strip() == "0"


def say(text: str) -> None:
    """A line for people, on standard error, so that standard output stays for results."""
    click.echo(text, err=True)


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A progress bar with the time left, on a terminal; nothing elsewhere."""
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
