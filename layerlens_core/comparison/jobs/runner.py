"""What runs jobs, as engines see it, and which jobs can share a run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from layerlens_core.values.comparison import Job, Result

#: Called with every result as it becomes known, also with those of other processes.
Progress = Callable[[Result], object]


class Runner(Protocol):
    """Trains jobs, stacked as it sees fit."""

    def __call__(self, jobs: Sequence[Job], /) -> Iterator[Result]:
        """Give the result of every job, each once and as soon as it is known, in any order.

        Raises `LayerLensError` where a job cannot be run, such as for want of memory.
        """
        ...


def distinct(jobs: Sequence[Job]) -> dict[str, Job]:
    """The jobs by their digests, the first of those that are the same."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.id, job)
    return found


def stackable(one: Job, other: Job) -> bool:
    """Whether two jobs see the same batches, so that one frozen model can train both at once."""
    return (one.schedule, one.seed) == (other.schedule, other.seed)


def blocks(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """The jobs in blocks of stackable ones, ``size`` at most in each, in the order of their first jobs."""
    found: list[list[Job]] = []
    for job in distinct(jobs).values():
        for block in found:
            if len(block) < size and stackable(block[0], job):
                block.append(job)
                break
        else:
            found.append([job])
    return found
