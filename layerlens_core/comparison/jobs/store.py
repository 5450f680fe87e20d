"""Results as files: one a job, beside the setting that all of them share, in a directory of the run.

The files are the truth. Any number of processes write them at once; each is written whole or not at all, and the first
one of a job stays.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
from attrs import define, field

from layerlens_core.comparison.jobs.leases import Leases
from layerlens_core.comparison.jobs.runner import distinct
from layerlens_core.errors import FileError, shown
from layerlens_core.files import documents
from layerlens_core.files.folders import make_directory, reason
from layerlens_core.files.lock import BusyError
from layerlens_core.values.comparison import Job, Result, Setting

#: The directory of a comparison, in that of its run.
COMPARISON = "compare"
#: What all jobs of a comparison share.
SETTING = "setting.json"
RESULT_SCHEMA, SETTING_SCHEMA = "layerlens/result", "layerlens/setting"
VERSION = 1
#: Fields of a setting, in the order in which a difference is told, with what each is of.
_TOLD = {
    "model": "another model",
    "task": "another task",
    "data": "other training data",
    "held_out": "other held-out data",
    "labels": "other labels of the held-out data",
    "precision": "another precision",
    "versions": "other versions",
}


def same(one: Result, other: Result) -> bool:
    """Whether two results say the same of the same job.

    What was measured of the run (seconds, peak memory, how many were stacked) is left out, as it differs each time.
    """
    return _figures(one) == _figures(other)


@define
class ResultStore:
    """The results of one comparison; made by `open`.

    directory: ``RUN/compare``.
    setting: what all jobs share.
    """

    directory: Path
    setting: Setting
    _known: dict[str, Result] = field(factory=dict, init=False)

    @classmethod
    def open(cls, run: str | Path, setting: Setting, *, overwrite: bool = False) -> "ResultStore":
        """Open the results of a run, and make their directory where there is none.

        run: the run's directory.
        setting: of the comparison.
        overwrite: drop the results that are there, of this setting or of any other.

        Raises `FileError` where the directory holds another setting, or cannot be used, and `BusyError` where results
        would be dropped that other processes are computing.
        """
        store = cls(Path(run) / COMPARISON, setting)
        if overwrite:
            store._drop()
        make_directory(store._results)
        held = any(name.endswith(".json") for name in store._names())  # first: another process may write both just now
        if not (store.directory / SETTING).exists():
            if held:
                raise FileError(f"{store.directory} holds results without their {SETTING}; {_advice(store.directory)}")
            _write_first(store.directory / SETTING, setting, schema=SETTING_SCHEMA)
        store._check_setting()
        return store

    @property
    def leases(self) -> Path:
        """The directory in which processes say what they are computing."""
        return self.directory / "queue"

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """Those jobs that have no result yet, in their order, each once.

        Raises `FileError` where a result is damaged, or another job's.
        """
        unique = distinct(jobs)
        return [unique[job] for job in self.lacking(unique)]

    def lacking(self, jobs: Iterable[str]) -> list[str]:
        """As `missing`, of digests: those of many jobs take a while, and so are made once by whoever looks often."""
        there = self._names()
        left = []
        for job in jobs:
            if _name(job) in there:
                self.read(job)
            else:
                left.append(job)
        return left

    def results(self, jobs: Sequence[Job]) -> list[Result]:
        """The results of jobs, in their order, each with the job as it is given here.

        Raises `FileError` where one is missing, damaged, or another job's.
        """
        asked = [(job.id, job) for job in jobs]
        if left := self.lacking(dict(asked)):
            raise FileError(f"{self.directory} lacks {len(left)} of {len(asked)} results; run the comparison again")
        return [attrs.evolve(self.read(digest), job=job) for digest, job in asked]

    def read(self, job: str) -> Result:
        """The result of the job of a digest. Raises `FileError` where it is missing, damaged, or another job's."""
        if job not in self._known:
            path = self._results / _name(job)
            result = documents.read(path, Result, schema=RESULT_SCHEMA, version=VERSION)
            if result.job.id != job:
                raise FileError(f"{path} is the result of another job, {result.job.id}; remove it, and run again")
            self._check(result, path)
            self._known[job] = result
        return self._known[job]

    def add(self, result: Result) -> None:
        """Keep a result; where there is one of its job, that one stays.

        Raises `FileError` where it is no result of this comparison, or cannot be written, and `ValueError` where a
        figure is not finite: of a run that diverged, ``training`` ends before that.
        """
        path = self._results / _name(result.job.id)
        self._check(result, path)
        if not path.exists():
            _write_first(path, result, schema=RESULT_SCHEMA)

    def tidy(self, jobs: Sequence[Job]) -> None:
        """Take away what killed processes left of jobs whose results are there."""
        names = {_name(job.id) for job in jobs}
        left = [path for path in self._results.glob(".*.json.*") if _name(_job_of(path)) in names]
        for path in (*left, *self.directory.glob(f".*{SETTING}.*")):
            with suppress(OSError):
                path.unlink()

    @property
    def _results(self) -> Path:
        return self.directory / "results"

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self._results))
        except OSError as error:
            raise FileError(f"{self._results} cannot be read: {reason(error)}; run the comparison again") from None

    def _check(self, result: Result, path: Path) -> None:
        """Refuse what is no result of this comparison."""
        if result.job.setting != self.setting.id:
            raise FileError(f"{path} is of another comparison (setting {shown(result.job.setting)}); remove it")
        held_out = len(self.setting.labels)
        judged = min(result.job.schedule.judged or held_out, held_out)
        expected = 0 if result.diverged else judged
        if len(result.losses) != expected or len(result.right) not in (0, expected):
            raise FileError(
                f"{path} is damaged: it has {len(result.losses)} losses and {len(result.right)} answers of "
                f"{expected} held-out samples that it is judged on; remove it, and run again"
            )

    def _check_setting(self) -> None:
        """Refuse a directory of another setting, by what differs."""
        found = documents.read(self.directory / SETTING, Setting, schema=SETTING_SCHEMA, version=VERSION)
        if found == self.setting:
            return
        there, here = (attrs.asdict(each) for each in (found, self.setting))
        told = [_difference(name, there[name], here[name]) for name in _TOLD if there[name] != here[name]]
        raise FileError(f"{self.directory} holds results of {', of '.join(told)}; {_advice(self.directory)}")

    def _drop(self) -> None:
        """Remove the whole comparison, unless somebody is at work on it."""
        if not self.directory.exists():
            return
        if Leases.at_work(self.leases):
            raise BusyError(f"{self.directory} is being computed by another process; wait for it to end, or end it")
        try:
            shutil.rmtree(self.directory)
        except OSError as error:
            raise FileError(f"{self.directory} cannot be removed: {reason(error)}") from None


def _name(job: str) -> str:
    return f"{job}.json"


def _job_of(path: Path) -> str:
    """The job of a result that was being written."""
    return path.name.lstrip(".").partition(".")[0]


def _write_first(path: Path, value: object, *, schema: str) -> None:
    """Write a document, unless another process is first. Raises `FileError`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        documents.write(draft, value, schema=schema, version=VERSION)
        os.link(draft, path)
    except FileError as error:
        if not path.exists():  # whoever was first may have tidied up
            raise FileError(str(error).replace(str(draft), str(path))) from None
    except OSError:
        if not path.exists():  # a file system without hard links
            _replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()


def _replace(draft: Path, path: Path) -> None:
    try:
        os.replace(draft, path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {reason(error)}") from None


def _figures(result: Result) -> Result:
    return attrs.evolve(result, seconds=0.0, stacked=1, peak=0)


def _difference(name: str, there: object, here: object) -> str:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        changed = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
        there, here = (" ".join(f"{key} {each.get(key, 'none')}" for key in changed) for each in (there, here))
    elif isinstance(there, tuple) and isinstance(here, tuple):
        there, here = (f"{len(each)} samples, {sum(each)} labels" for each in (there, here))
    return f"{_TOLD[name]} ({shown(str(there))} there, {shown(str(here))} here)"


def _advice(directory: Path) -> str:
    return f"--overwrite drops them; a plan in another directory than {directory.parent} keeps them"
