"""All jobs in one process, interrupted and run again."""

import shutil

import attrs
import pytest

from layerlens_core.comparison.jobs import local
from layerlens_core.comparison.jobs.leases import leasing
from layerlens_core.comparison.jobs.local import FILLING, run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import ModelError
from layerlens_core.files.lock import BusyError
from scripts.comparing import SETTING, arm, content, pretended, pretending, some_jobs

JOBS = some_jobs(10)


@pytest.fixture
def store(tmp_path):
    return ResultStore.open(tmp_path, SETTING)


def queue(store):
    return [path for path in store.leases.rglob("*") if path.is_file()]


def stopping(after, error):
    """A runner that raises an error once it has given some results."""

    def run(jobs):
        for job in jobs[:after]:
            yield pretended(job)
        raise error

    return run


def test_all_missing_jobs_go_to_the_runner_at_once_and_results_come_in_order(store):
    asked, told = [], []

    def run(jobs):
        asked.append(jobs)
        yield from map(pretended, reversed(jobs))

    assert run_local(store, JOBS[:4], run) == list(map(pretended, JOBS[:4]))
    assert run_local(store, JOBS, run, progress=told.append) == list(map(pretended, JOBS))
    assert asked == [JOBS[:4], JOBS[4:]]
    assert told == list(map(pretended, reversed(JOBS[4:])))


def test_nothing_is_run_where_nothing_is_missing(store):
    run_local(store, JOBS, pretending())
    renamed = [attrs.evolve(job, arm=attrs.evolve(job.arm, name="plan")) for job in JOBS]
    results = run_local(store, renamed, stopping(0, AssertionError("was asked")))
    assert [result.job for result in results] == renamed


def test_what_a_process_left_that_was_killed_just_at_the_end_goes_away(store):
    run_local(store, JOBS, pretending())
    (store.leases / "leases" / f"{JOBS[0].id}.1").write_text("elsewhere-1-abcd")
    half = store.directory / "results" / f".{JOBS[0].id}.json.abcdefgh"
    half.touch()
    (store.leases / "leases" / f"{FILLING}.1").write_text("elsewhere-1-abcd")  # of one that had joined
    run_local(store, JOBS, stopping(0, AssertionError("was asked")))
    assert queue(store) == []
    assert not half.exists()


def test_what_is_done_is_read_where_nothing_can_be_written(store, monkeypatch):
    run_local(store, JOBS, pretending())
    shutil.rmtree(store.leases)
    monkeypatch.setattr(local, "leasing", lambda *_: pytest.fail("wrote"))
    assert len(run_local(store, JOBS, pretending())) == len(JOBS)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("no memory")])
def test_an_interruption_loses_only_what_was_not_done(tmp_path, store, error):
    with pytest.raises(type(error)):
        run_local(store, JOBS, stopping(3, error))
    assert store.missing(JOBS) == JOBS[3:]
    assert queue(store) == []
    asked = []
    run_local(ResultStore.open(tmp_path, SETTING), JOBS, pretending(begun=asked.append))
    assert asked == JOBS[3:]


def test_it_leaves_the_same_bytes_however_it_was_interrupted(tmp_path):
    run_local(ResultStore.open(tmp_path / "whole", SETTING), JOBS, pretending())
    store = ResultStore.open(tmp_path / "parts", SETTING)
    for after in (0, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            run_local(store, JOBS, stopping(after, KeyboardInterrupt()))
    (store.directory / "results" / f".{JOBS[0].id}.json.abcdefgh").touch()
    run_local(store, JOBS, pretending())
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_jobs_of_another_process_are_not_run_beside_it(store):
    with leasing(store.leases) as other:
        other.take(JOBS[4].id)
        with pytest.raises(BusyError, match=r"is being computed by another process; --join"):
            run_local(store, JOBS, pretending())
    assert store.missing(JOBS) == JOBS
    run_local(store, JOBS, pretending())


def test_a_job_that_another_process_has_just_ended_is_not_run(store, monkeypatch):
    looked = []
    missing = ResultStore.missing

    def late(self, jobs):
        found = missing(self, jobs)
        if not looked:
            looked.append(True)
            self.add(pretended(JOBS[0]))
        return found

    monkeypatch.setattr(ResultStore, "missing", late)
    asked = []
    run_local(store, JOBS[:2], pretending(begun=asked.append))
    assert asked == JOBS[1:2]
    assert queue(store) == []


def test_a_runner_that_leaves_jobs_out_is_told(store):
    with pytest.raises(RuntimeError, match="1 gave no result"):
        run_local(store, JOBS, lambda jobs: map(pretended, jobs[1:]))


def test_one_job_under_two_names_is_run_once(store):
    renamed = attrs.evolve(JOBS[0], arm=arm(1, "plan"))
    asked = []
    results = run_local(store, [JOBS[0], renamed], pretending(begun=asked.append))
    assert [len(asked), *(result.job.arm.name for result in results)] == [1, "uniform", "plan"]
