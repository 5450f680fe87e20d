"""Who is computing what: leases on a disk that processes share, also of several hosts.

A process at work has a file ``workers/HOST-PID-…``, whose time it renews. A lease of a job is a file
``leases/JOB.N`` that names its owner. Only one process can make it, and one that has died is followed by that of number
N + 1, which again only one can make; so no lease has to be taken from anybody. An owner has died where its file is no
longer locked, which processes of its own host see at once, or was not renewed for long. Ages are differences of times
that the disk's own clock gave, so clocks of hosts may differ.

A lease says only who computes. An owner that was stopped for long and goes on computes a job a second time, which
changes nothing: results are pure, and the first one stays.
"""

import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from attrs import define, field

from layerlens_core.errors import FileError
from layerlens_core.files.folders import make_directory, reason

if sys.platform != "win32":
    import fcntl

#: Seconds without a sign of life after which another process takes a job over.
LEASE_SECONDS = 60.0
#: Seconds between signs of life, at most.
_BEAT = 10.0


@define
class Leases:
    """The leases of this process; made by `leasing`.

    directory: of all leases of a comparison.
    seconds: without a sign of life after which an owner counts as dead.
    """

    directory: Path
    seconds: float = LEASE_SECONDS
    name: str = field(factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    _held: dict[str, int] = field(factory=dict, init=False)

    @classmethod
    def left(cls, directory: Path) -> bool:
        """Whether anything lies there, of processes at work or killed."""
        return bool(_listed(directory / "workers") or _listed(directory / "leases"))

    @classmethod
    def at_work(cls, directory: Path) -> bool:
        """Whether any process is at work on what the leases of a directory are about."""
        if not cls.left(directory):
            return False
        with leasing(directory) as own:
            return any(not own._has_died(name) for name in _listed(directory / "workers") if name != own.name)

    def take(self, job: str) -> bool:
        """Take a job's lease; whether it is this process's now.

        Whoever gets it looks afterwards whether the job is still to be done. Raises `FileError` where no lease can be
        written.
        """
        there = self._of(job)
        if any(not self._is_over(self._path(job, number)) for number in there):
            return job in self._held
        number = max(there, default=0) + 1
        path = self._path(job, number)
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(self.name)
        except FileExistsError:
            return False
        except OSError as error:
            raise FileError(f"{path} cannot be written: {reason(error)}") from None
        self._held[job] = number
        return True

    def drop(self, job: str) -> None:
        """Give a job's lease back, and take away those of the dead before it."""
        mine = self._held.pop(job, 0)
        for number in self._of(job):
            if number <= mine:
                self._path(job, number).unlink(missing_ok=True)

    def forget(self, jobs: set[str]) -> None:
        """Take away every lease of jobs that are done, and what processes that have died left of themselves."""
        for name in _listed(self.directory / "leases"):
            if name.rpartition(".")[0] in jobs:
                (self.directory / "leases" / name).unlink(missing_ok=True)
        for name in _listed(self.directory / "workers"):
            if self._has_died(name) and not self._is_locked_here(name):  # one that was stopped may go on
                (self.directory / "workers" / name).unlink(missing_ok=True)

    def renew(self) -> None:
        """Give a sign of life."""
        self._own.touch()

    @property
    def _own(self) -> Path:
        return self.directory / "workers" / self.name

    def _path(self, job: str, number: int) -> Path:
        return self.directory / "leases" / f"{job}.{number}"

    def _of(self, job: str) -> list[int]:
        """The numbers of a job's leases, in order."""
        parts = (name.rpartition(".") for name in _listed(self.directory / "leases"))
        return sorted(int(number) for of, _, number in parts if of == job and number.isdecimal())

    def _is_over(self, lease: Path) -> bool:
        """Whether nobody computes under a lease any more."""
        try:
            owner, written = lease.read_text(encoding="utf-8", errors="replace"), lease.stat().st_mtime
        except FileNotFoundError:
            return True
        if not owner:  # being written, unless its owner was killed just then
            return self._now() - written > self.seconds
        return self._has_died(owner)

    def _has_died(self, worker: str) -> bool:
        if worker == self.name:
            return False
        try:
            if self._is_here(worker) and not self._is_locked_here(worker):
                return True
            return self._now() - (self.directory / "workers" / worker).stat().st_mtime > self.seconds
        except (FileNotFoundError, ValueError):  # owners make their files before leases, and remove them after those
            return True

    def _is_here(self, worker: str) -> bool:
        return worker.rsplit("-", 2)[0] == socket.gethostname()

    def _is_locked_here(self, worker: str) -> bool:
        """Whether a process of this host goes on, as far as locks can tell: where there are none, it seems to."""
        return self._is_here(worker) and not _is_unlocked(self.directory / "workers" / worker)

    def _now(self) -> float:
        """What the disk's clock says."""
        self.renew()
        return self._own.stat().st_mtime


@contextmanager
def leasing(directory: Path, seconds: float = LEASE_SECONDS) -> Iterator[Leases]:
    """Be one of the processes that take jobs; in the end all leases are given back.

    directory: of all leases of a comparison; made where it is missing.
    seconds: as in `Leases`.

    Raises `FileError` where nothing can be written there.
    """
    for folder in ("workers", "leases"):
        make_directory(directory / folder)
    own = Leases(directory, seconds)
    draft = own._own.with_name(f".{own.name}")
    try:
        file = open(draft, "x")  # noqa: SIM115 - closed below, which ends its lock
        _lock(file)
        os.replace(draft, own._own)  # locked before anybody sees it
    except OSError as error:
        raise FileError(f"{own._own} cannot be written: {reason(error)}") from None
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(own, ended), daemon=True)
    try:
        beating.start()
        yield own
    finally:
        ended.set()
        if beating.ident is not None:
            beating.join()
        with suppress(OSError):  # what stays is taken for a dead process's
            for job in list(own._held):
                own.drop(job)
            own._own.unlink(missing_ok=True)
        file.close()


def _beat(own: Leases, ended: threading.Event) -> None:
    while not ended.wait(min(_BEAT, own.seconds / 5)):
        with suppress(OSError):  # a disk that is away for a moment
            own.renew()


def _lock(file: TextIO) -> None:
    """Lock a file until it is closed, where the system can."""
    if sys.platform == "win32":
        file.close()  # an open file could not be renamed
        return
    with suppress(OSError):  # some file systems of networks know no locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_unlocked(path: Path) -> bool:
    """Whether a process of this host that had made a file has ended; False where there are no locks."""
    if sys.platform == "win32":
        return False
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
