"""Processes that share the jobs of one comparison."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from layerlens_core.comparison.jobs.join import run_joined
from layerlens_core.comparison.jobs.leases import leasing
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.runner import blocks, stackable
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import ModelError
from scripts import comparing, environment
from scripts.comparing import SETTING, content, pretended, pretending, some_jobs

JOBS = some_jobs(24)


@pytest.fixture
def store(tmp_path):
    return ResultStore.open(tmp_path / "run", SETTING)


@pytest.fixture
def alone(tmp_path):
    """What one process leaves that is not interrupted."""
    run_local(ResultStore.open(tmp_path / "alone", SETTING), JOBS, pretending())
    return content(tmp_path / "alone")


@pytest.fixture
def start(tmp_path):
    """Start a process that joins in."""
    started = []

    def starts(seconds):
        program = [sys.executable, comparing.__file__, str(tmp_path / "run"), "--seconds", str(seconds)]
        process = subprocess.Popen([*program, "--log", str(tmp_path / "log")], env=environment())
        started.append(process)
        return process

    yield starts
    for process in started:
        process.kill()
        process.wait()


def begun(log):
    """By process, the jobs that it began."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(line.split()) for line in lines]


def left_over(store):
    """What a comparison leaves in its queue, beside the journal."""
    return [path.name for path in store.leases.rglob("*") if path.is_file() and path.name != "journal.log"]


def test_one_process_gets_blocks_of_jobs_that_can_be_stacked(store, tmp_path, alone):
    asked, told = [], []

    def run(jobs):
        asked.append(list(jobs))
        yield from map(pretended, jobs)

    assert run_joined(store, JOBS, run, block=3, progress=told.append) == list(map(pretended, JOBS))
    assert {len(block) for block in asked} == {3, 1}
    assert all(stackable(block[0], job) for block in asked for job in block)
    assert sorted(job.id for block in asked for job in block) == sorted(job.id for job in JOBS)
    assert Counter(result.job.id for result in told) == Counter(job.id for job in JOBS)
    assert content(tmp_path / "run") == alone
    assert left_over(store) == []


@pytest.mark.parametrize("done", [[0], [1, 2], [0, 1, 2, 5], [4, 5, 6]])
def test_jobs_train_beside_those_of_their_own_block_whatever_is_done(store, done):
    asked = []

    def run(jobs):
        asked.append([job.id for job in jobs])
        yield from map(pretended, jobs)

    for number in done:
        store.add(pretended(JOBS[number]))
    there = {JOBS[number].id for number in done}
    wanted = [[job.id for job in block if job.id not in there] for block in blocks(JOBS, 3)]
    run_joined(store, JOBS, run, block=3)
    assert asked == [block for block in wanted if block]


def test_a_block_that_another_process_has_begun_is_left_to_it(store):
    asked = []

    def run(jobs):
        asked.append([job.id for job in jobs])
        if len(asked) == 1:  # the other one goes on in the meantime
            for job in JOBS[:3]:
                store.add(pretended(job))
        yield from map(pretended, jobs)

    with leasing(store.leases) as other:
        assert other.take(JOBS[0].id)
        run_joined(store, JOBS, run, block=3)
    assert asked == [[job.id for job in block] for block in blocks(JOBS, 3)[1:]]


def test_nothing_is_done_where_nothing_is_missing(store):
    run_local(store, JOBS, pretending())
    assert run_joined(store, JOBS, lambda jobs: pytest.fail("was asked"), block=3) == list(map(pretended, JOBS))
    assert left_over(store) == []


@pytest.mark.slow
def test_two_processes_take_each_job_once(store, tmp_path, start, alone):
    processes = [start(0.05), start(0.05)]
    assert [process.wait() for process in processes] == [0, 0]
    done = begun(tmp_path / "log")
    assert sorted(job for _, job in done) == sorted(job.id for job in JOBS)
    assert content(tmp_path / "run") == alone
    assert left_over(store) == []


@pytest.mark.slow
def test_jobs_of_a_process_that_was_killed_are_taken_over(store, tmp_path, start, alone):
    doomed = start(0.3)
    while not begun(tmp_path / "log"):
        assert doomed.poll() is None
        time.sleep(0.01)
    doomed.kill()
    doomed.wait()
    lost = {job for _, job in begun(tmp_path / "log")} & {job.id for job in store.missing(JOBS)}
    other = start(0.0)
    assert other.wait() == 0
    done = begun(tmp_path / "log")
    assert {job for process, job in done if process == str(other.pid)} >= lost
    assert content(tmp_path / "run") == alone
    assert left_over(store) == []


@pytest.mark.slow
def test_a_process_that_was_stopped_for_long_and_goes_on_changes_nothing(store, tmp_path, start, alone):
    stopped = start(0.3)
    while not begun(tmp_path / "log"):
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGSTOP)
    run_joined(store, JOBS, pretending(), block=3, lease_seconds=0.5)
    assert content(tmp_path / "run") == alone
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait() == 0
    assert content(tmp_path / "run") == alone
    assert left_over(store) == []


def test_a_runner_that_fails_leaves_its_jobs_to_others(store):
    def run(jobs):
        yield pretended(jobs[0])
        raise ModelError("no memory")

    with pytest.raises(ModelError, match="no memory"):
        run_joined(store, JOBS, run, block=4)
    assert store.missing(JOBS) == JOBS[1:]
    assert left_over(store) == []
    asked = []
    run_joined(store, JOBS, pretending(begun=asked.append), block=4)
    assert asked == JOBS[1:]


def test_it_waits_for_jobs_of_others_and_tells_their_results(store):
    told = []
    with leasing(store.leases) as other:
        other.take(JOBS[0].id)
        joined = threading.Thread(
            target=lambda: run_joined(store, JOBS, pretending(), block=4, progress=told.append, lease_seconds=3600)
        )
        joined.start()
        while len(told) < len(JOBS) - 1:
            time.sleep(0.01)
        assert joined.is_alive()
        store.add(pretended(JOBS[0]))
    joined.join()
    assert Counter(result.job.id for result in told) == Counter(job.id for job in JOBS)


def test_a_job_that_another_process_has_just_ended_is_not_run(store, monkeypatch):
    lacking = ResultStore.lacking
    calls = []

    def late(self, jobs):
        found = lacking(self, jobs)
        calls.append(found)
        if len(calls) == 2:  # the look before the first block is taken
            self.add(pretended(JOBS[0]))
        return found

    monkeypatch.setattr(ResultStore, "lacking", late)
    asked = []
    run_joined(store, JOBS[:2], pretending(begun=asked.append), block=2)
    assert asked == JOBS[1:2]


def test_a_queue_that_was_removed_is_made_again(store):
    run_joined(store, JOBS[:4], pretending(), block=2)
    Path(store.leases / "journal.log").unlink()
    assert len(run_joined(store, JOBS, pretending(), block=2)) == len(JOBS)
