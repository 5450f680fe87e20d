"""The queue tells what waits, what runs and what came out."""

import subprocess
import sys

import pytest
from optuna.storages.journal._file import get_lock_file
from optuna.trial import TrialState

from layerlens_core.comparison.jobs.queue import Queue
from layerlens_core.comparison.jobs.runner import distinct
from layerlens_core.errors import FileError, PluginError
from scripts import environment
from scripts.comparing import SETTING, pretended, some_jobs

JOBS = some_jobs(12)
DIVERGED = next(job for job in JOBS if pretended(job).diverged)
DONE = next(job for job in JOBS if not pretended(job).diverged)


@pytest.fixture
def queue(tmp_path):
    return Queue.open(tmp_path / "journal.log", SETTING.labels)


def states(path):
    """By job, as another process sees it."""
    trials = Queue.open(path, SETTING.labels)._study.get_trials()
    return {trial.user_attrs["job"]: trial.state for trial in trials}


def test_every_job_is_a_trial_once(queue):
    queue.enqueue(distinct(JOBS[:5]))
    queue.enqueue(distinct(JOBS))
    trials = queue._study.get_trials()
    assert [trial.user_attrs["job"] for trial in trials] == [job.id for job in JOBS]
    assert {trial.state for trial in trials} == {TrialState.WAITING}
    assert trials[1].user_attrs == {"job": JOBS[1].id, "arm": "uniform r=2", "rate": 1e-3, "seed": 0, "steps": 10}


def test_it_tells_what_runs_and_what_came_of_it(queue):
    queue.enqueue(distinct(JOBS))
    other = Queue.open(queue.path, SETTING.labels)
    other.enqueue(distinct(JOBS))
    queue.begin(JOBS[:10])
    for job in (DONE, DIVERGED):
        queue.end(pretended(job))
        other.end(pretended(job))  # whoever had it before comes late
    told = states(queue.path)
    assert told[DONE.id] == TrialState.COMPLETE
    assert told[DIVERGED.id] == TrialState.FAIL
    assert told[JOBS[11].id] == TrialState.WAITING
    values = {trial.user_attrs["job"]: trial.values for trial in queue._study.get_trials()}
    assert values[DONE.id] == [pretended(DONE).loss(SETTING.labels)]


def test_what_a_killed_process_could_not_say_is_said(queue):
    queue.enqueue(distinct(JOBS))
    queue.begin([DONE])
    queue.settle({job.id: pretended(job) for job in (DONE, DIVERGED)})
    told = states(queue.path)
    assert (told[DONE.id], told[DIVERGED.id]) == (TrialState.COMPLETE, TrialState.FAIL)
    assert [state for state in told.values() if state == TrialState.WAITING] != []


@pytest.mark.parametrize("damage", [b"{\n", b'{"op_code": 4}\n', b'"\xff"\n', b"[]\n"])
def test_a_damaged_journal_is_refused_in_one_line(queue, damage):
    queue.enqueue(distinct(JOBS[:2]))
    with open(queue.path, "ab") as file:
        file.write(damage)
    with pytest.raises(FileError, match="remove it and run again, no result is lost"):
        Queue.open(queue.path, SETTING.labels).enqueue(distinct(JOBS))


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(FileError, match="cannot be used"):
        Queue.open(tmp_path / "none" / "journal.log", SETTING.labels)


@pytest.mark.slow
def test_a_lock_that_a_killed_process_left_is_taken(queue, monkeypatch):
    monkeypatch.setattr("layerlens_core.comparison.jobs.queue._LOCK_SECONDS", 3)
    queue.path.with_name("journal.log.lock").touch()
    Queue.open(queue.path, SETTING.labels).enqueue(distinct(JOBS[:1]))
    assert list(states(queue.path)) == [JOBS[0].id]


def test_a_lock_that_was_taken_from_a_process_that_was_slow_changes_nothing(queue):
    queue.enqueue(distinct(JOBS[:2]))
    with get_lock_file(queue._storage._backend._lock):
        queue.path.with_name("journal.log.lock").unlink()
        Queue.open(queue.path, SETTING.labels).enqueue(distinct(JOBS))
    assert list(states(queue.path)) == [job.id for job in JOBS]


def test_without_optuna_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PluginError, match="pip install optuna brings it"):
        Queue.open(tmp_path / "journal.log", ())


def test_optuna_is_imported_where_the_queue_is_opened_alone():
    program = "import sys, layerlens_core.comparison.jobs.join; print('optuna' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == "False\n"
