"""How far a command is: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from layerlens_core.cli.terminal import is_first, say

if TYPE_CHECKING:
    from layerlens_core.profiling.profile import Progress

#: Seconds before the first line of a stage, and between two; the longer it lasts the rarer they are.
FIRST, LATER, OF_WHAT_PASSED = 3.0, 10.0, 0.1


def loading(what: str) -> None:
    """A line before seconds of silence in which torch is imported; nothing where it is there already.

    what: is loaded after it.
    """
    if "torch" not in sys.modules and is_first():
        say(f"loading torch and {what} …")


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A progress bar with the time left, on a terminal; elsewhere lines, where anything takes over three seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not is_first():
        yield lambda stage, done, total: None
        return
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if not console.is_terminal:  # a disabled bar of rich before 14.3 leaves an empty line
        yield Lines()
        return
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield report


class Lines:
    """Progress as lines for logs: of what takes long, and then rarely.

    clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}
        self._next: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is, if it is time for that.

        stage: its name.
        done: of it.
        total: of it; may change on the way.
        """
        now = self._clock()
        began, before = self._began.setdefault(stage, (now, done))  # what was resumed took no time here
        passed, made = now - began, done - before
        if now < self._next.setdefault(stage, began + FIRST):
            return
        self._next[stage] = now + max(LATER, OF_WHAT_PASSED * passed)
        left = f", about {_duration(passed * (total - done) / made)} left" if made > 0 and done < total else ""
        say(f"{stage}: {done:,} of {total:,} in {_duration(passed)}{left}")


def _duration(seconds: float) -> str:
    """A time as people say it, to two figures."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
