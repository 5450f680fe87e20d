"""Several processes, on any hosts that share a disk, do one comparison's jobs together: each takes what is left."""

import time
from collections.abc import Mapping, Sequence

from attrs import define

from layerlens_core.comparison.jobs.leases import LEASE_SECONDS, Leases, leasing
from layerlens_core.comparison.jobs.local import FILLING, Taken, are_done, tidy
from layerlens_core.comparison.jobs.queue import Queue
from layerlens_core.comparison.jobs.runner import Progress, Runner, blocks, distinct
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.values.comparison import Job, Result

#: The journal of the queue, beside the leases.
JOURNAL = "journal.log"


def run_joined(
    store: ResultStore,
    jobs: Sequence[Job],
    runner: Runner,
    *,
    block: int,
    lease_seconds: float = LEASE_SECONDS,
    progress: Progress = lambda result: None,
) -> list[Result]:
    """Do the jobs together with every other process that calls this, and give the results of all, in their order.

    Each process takes blocks of jobs that can be stacked, one after the other. Which jobs are a block does not depend
    on who takes what when, since arms round otherwise beside others. Jobs of a process that died are taken over: at
    once on its own host, else when it has given no sign of life for ``lease_seconds``. Returns when all jobs are done,
    by whomever.

    store: where results are kept, on a disk that all processes share.
    jobs: to be done.
    runner: gets a block at a time.
    block: jobs to take at once, at most.
    lease_seconds: as said; several times as long as the disk takes to show one host what another wrote.
    progress: called with every new result, of other processes too.

    Raises `PluginError` where Optuna is not installed, `FileError` where the directory cannot be used, and what the
    runner raises; the jobs that it had not done are then free for others.
    """
    if are_done(store, jobs):
        return store.results(jobs)
    waiting = _Waiting(store, distinct(store.missing(jobs)), progress)
    with leasing(store.leases, lease_seconds) as leases:
        mine, together = waiting.jobs, [[job.id for job in each] for each in blocks(jobs, block)]
        queue = _filled(store, mine, leases)
        waited = False
        while left := waiting.look():
            free = _take(left, together, store, leases, begun=waited)
            taken = Taken(free, store, leases, lambda result: waiting.look())
            if taken.jobs:
                queue.begin(taken.jobs)
                taken.run(runner, then=queue.end)
            waited = not taken.jobs
            if waited:  # others compute the rest, or die over it
                time.sleep(min(0.5, lease_seconds / 10))
        queue.settle({job: store.read(job) for job in mine})
        tidy(store, jobs, leases)
    return store.results(jobs)


@define
class _Waiting:
    """Jobs whose results were not told yet.

    store: where results are kept.
    jobs: those jobs, by their digests.
    progress: called with every new result.
    """

    store: ResultStore
    jobs: dict[str, Job]
    progress: Progress

    def look(self) -> dict[str, Job]:
        """Tell of new results; what is left."""
        before = self.jobs
        self.jobs = {job: before[job] for job in self.store.lacking(before)}
        for job in before.keys() - self.jobs.keys():
            self.progress(self.store.read(job))
        return self.jobs


def _filled(store: ResultStore, jobs: Mapping[str, Job], leases: Leases) -> Queue:
    """The queue, with all jobs in it."""
    while not leases.take(FILLING):
        time.sleep(0.05)
    try:
        queue = Queue.open(store.leases / JOURNAL, store.setting.labels)
        queue.enqueue(jobs)
    finally:
        leases.drop(FILLING)
    return queue


def _take(
    left: Mapping[str, Job], together: Sequence[Sequence[str]], store: ResultStore, leases: Leases, *, begun: bool
) -> list[Job]:
    """Take what is left of the first block of which something is free.

    begun: take from blocks too of which another process has the first job; it is about to take the others as well, so
        these are free for good only where that was a while ago.
    """
    for block in together:
        taken: list[str] = []
        for digest in block:
            if digest not in left:
                continue
            if leases.take(digest):
                taken.append(digest)
            elif not taken and not begun:
                break
        # Another process may have ended a job between the look and the lease.
        free = store.lacking(taken)
        for digest in set(taken) - set(free):
            leases.drop(digest)
        if free:
            return [left[digest] for digest in free]
    return []
