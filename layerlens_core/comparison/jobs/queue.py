"""The queue of a comparison's jobs, as a study of Optuna in a journal file: what waits, what runs, what came out.

Results and leases decide what is done and who does it; the queue tells it, to people and to Optuna's dashboard. So it
may be removed while nobody is at work, and is made again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from layerlens_core.errors import FileError, PluginError, first_line
from layerlens_core.files.folders import reason
from layerlens_core.values.comparison import Job, Result

#: The study's name in its journal.
STUDY = "comparison"
#: Seconds after which the journal's lock is taken from a process that was killed while it wrote a line.
_LOCK_SECONDS = 10


@define
class Queue:
    """A study whose trials are jobs; made by `open`.

    path: of the journal.
    labels: of the setting, by which losses are weighted.
    """

    path: Path
    labels: tuple[int, ...]
    _storage: Any = field(init=False)
    _study: Any = field(init=False)
    _trials: dict[str, int] = field(factory=dict, init=False)

    @classmethod
    def open(cls, path: Path, labels: tuple[int, ...]) -> "Queue":
        """Open a journal, and make it where there is none.

        Raises `PluginError` where Optuna is not installed, and `FileError` where the journal cannot be used.
        """
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
        except ImportError as error:
            raise PluginError(f"--join needs Optuna ({first_line(error)}); pip install optuna brings it") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        queue = cls(path, labels)

        # The other lock, a symbolic link, is never taken over where the journal's path is relative.
        class Lock(JournalFileOpenLock):  # type: ignore[misc]
            def release(self) -> None:
                with suppress(RuntimeError):  # it was slow, and another has taken its lock; lines are appended whole
                    super().release()

        with queue._speaking():
            lock = Lock(str(path), grace_period=_LOCK_SECONDS)
            queue._storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
            queue._study = optuna.create_study(storage=queue._storage, study_name=STUDY, load_if_exists=True)
        return queue

    def enqueue(self, jobs: Mapping[str, Job]) -> None:
        """Let those jobs, by their digests, wait that are not in the queue yet. One process at a time does this."""
        with self._speaking():
            there = self._by_job()
            for digest, job in jobs.items():
                if digest not in there:
                    told = {"job": digest, "arm": job.arm.key, "rate": job.rate, "seed": job.seed}
                    self._study.enqueue_trial({}, user_attrs={**told, "steps": job.schedule.steps})
            self._trials = self._by_job()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Say that jobs are running."""
        from optuna.trial import TrialState

        with self._speaking():
            for job in jobs:
                self._say(job, TrialState.RUNNING)

    def end(self, result: Result) -> None:
        """Say what came of a job; a run that diverged has failed."""
        from optuna.trial import TrialState

        with self._speaking():
            if result.diverged:
                self._say(result.job, TrialState.FAIL)
            else:
                self._say(result.job, TrialState.COMPLETE, [result.loss(self.labels)])

    def settle(self, results: Mapping[str, Result]) -> None:
        """Say of jobs, by their digests, that are done what a process that was killed could no longer say."""
        with self._speaking():
            open_ones = {trial.number for trial in self._study.get_trials(deepcopy=False) if not _is_over(trial)}
        for digest, result in results.items():
            if self._trials.get(digest) in open_ones:
                self.begin([result.job])
                self.end(result)

    def _by_job(self) -> dict[str, int]:
        """The numbers of trials by job."""
        trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs["job"]: trial.number for trial in trials if "job" in trial.user_attrs}

    def _say(self, job: Job, state: Any, values: list[float] | None = None) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        study = self._storage.get_study_id_from_name(STUDY)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, self._trials[job.id])
        try:
            self._storage.set_trial_state_values(trial, state, values)
        except UpdateFinishedTrialError:
            return  # whoever had the job before has said it

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What Optuna raises, as errors of ours."""
        try:
            yield
        except OSError as error:
            raise FileError(f"{self.path} cannot be used: {reason(error)}") from None
        except Exception as error:  # a line of the journal that Optuna cannot replay fails in many ways
            raise FileError(
                f"{self.path} is damaged ({first_line(error)}); remove it and run again, no result is lost"
            ) from None


def _is_over(trial: Any) -> bool:
    over: bool = trial.state.is_finished()
    return over
