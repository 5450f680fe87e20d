"""All jobs in one process: the default."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from attrs import frozen

from layerlens_core.comparison.jobs.leases import Leases, leasing
from layerlens_core.comparison.jobs.runner import Progress, Runner
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import FileError
from layerlens_core.files.lock import BusyError
from layerlens_core.values.comparison import Job, Result

#: The lease under which one process fills the queue that several share.
FILLING = "filling"


@frozen
class Taken:
    """Jobs that are this process's to compute.

    jobs: that have no result yet.
    store: where results are kept.
    leases: this process's.
    progress: called with every result.
    """

    jobs: Sequence[Job]
    store: ResultStore
    leases: Leases
    progress: Progress

    def keep(self, result: Result) -> None:
        """Keep a result, and give its job's lease back."""
        self.store.add(result)
        self.leases.drop(result.job.id)
        self.progress(result)

    def run(self, runner: Runner, then: Callable[[Result], object] = lambda result: None) -> None:
        """Run the jobs, and keep every result as soon as it is there.

        runner: that trains them.
        then: called with every result once it is kept.
        """
        for result in runner(self.jobs) if self.jobs else ():
            self.keep(result)
            then(result)
        self.check()

    def check(self) -> None:
        """Every job has its result now, or whoever ran them is wrong."""
        if left := self.store.missing(self.jobs):
            raise RuntimeError(f"of {len(self.jobs)} jobs that were run, {len(left)} gave no result: {left[0].id} …")


def run_local(
    store: ResultStore, jobs: Sequence[Job], runner: Runner, *, progress: Progress = lambda result: None
) -> list[Result]:
    """Compute in this process what is missing, and give the results of all jobs, in their order.

    Each result is kept as soon as it is known, so that an interruption loses only jobs that were not done.

    store: where results are kept.
    jobs: to be done.
    runner: gets all missing jobs at once.
    progress: called with every new result.

    Raises `BusyError` where another process computes some of the jobs, and what the runner raises.
    """
    if not are_done(store, jobs):
        with taking_all(store, jobs, progress) as taken:
            taken.run(runner)
    return store.results(jobs)


@contextmanager
def taking_all(store: ResultStore, jobs: Sequence[Job], progress: Progress) -> Iterator[Taken]:
    """Take all jobs that have no result. Raises `BusyError` where another process computes some of them."""
    with leasing(store.leases) as leases:
        for job in store.missing(jobs):
            if not leases.take(job.id):
                raise BusyError(
                    f"{store.directory} is being computed by another process; "
                    "--join, given to each of them, shares the work"
                )
        # Another process may have ended a job between the look and the lease.
        yield Taken(store.missing(jobs), store, leases, progress)
        tidy(store, jobs, leases)


def are_done(store: ResultStore, jobs: Sequence[Job]) -> bool:
    """Whether no job is missing; what processes left that were killed just at the end then goes away, where it may."""
    if store.missing(jobs):
        return False
    if Leases.left(store.leases):
        with suppress(FileError), leasing(store.leases) as leases:
            tidy(store, jobs, leases)
    return True


def tidy(store: ResultStore, jobs: Sequence[Job], leases: Leases) -> None:
    """Take away what killed processes left of jobs, once all of these are done."""
    store.tidy(jobs)
    leases.forget({job.id for job in jobs})
    leases.clear(FILLING)
