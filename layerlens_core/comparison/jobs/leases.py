"""Who is computing what: leases on a disk that processes share, also of several hosts.

A process at work has a file ``workers/HOST-PID-…``, whose time it renews. A lease of a job is a file
``leases/JOB.N`` that names its owner. Only one process can make it, and one that has died is followed by that of number
N + 1, which again only one can make; so no lease has to be taken from anybody. An owner has died where its file is no
longer locked, which processes of its own host see at once, or was not renewed for long. Ages are differences of times
that the disk's own clock gave, so clocks of hosts may differ.

A file that another process took away between a look and a use is one of a process that has ended.

A lease says only who computes. An owner that was stopped for long and goes on computes a job a second time, which
changes nothing: results are pure, and the first one stays.
"""

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import define, field

from layerlens_core.comparison.jobs.signs import is_away, is_unlocked, listed, made_locked, remove
from layerlens_core.errors import FileError
from layerlens_core.files.folders import make_directory, reason

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
        return bool(listed(directory / "workers") or listed(directory / "leases"))

    @classmethod
    def at_work(cls, directory: Path) -> bool:
        """Whether any process is at work on what the leases of a directory are about."""
        if not cls.left(directory):
            return False
        with leasing(directory) as own:
            return any(not own._has_died(name) for name in listed(directory / "workers") if name != own.name)

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
        # Two that looked while leases were given back may have taken different numbers: whoever sees the other yields.
        if any(other != number and not self._is_over(self._path(job, other)) for other in self._of(job)):
            remove(path)
            return False
        self._held[job] = number
        return True

    def drop(self, job: str) -> None:
        """Give a job's lease back, and take away those of the dead before it."""
        mine = self._held.pop(job, 0)
        if self._owner(self._path(job, mine)) != self.name:
            return  # it was taken for a dead process's; what lies there is another's by now
        for number in self._of(job):
            if number <= mine:
                remove(self._path(job, number))

    def clear(self, job: str) -> None:
        """Take away what the dead left of a lease that nobody holds."""
        if self._of(job) and self.take(job):
            self.drop(job)

    def forget(self, jobs: set[str]) -> None:
        """Take away every lease of jobs that are done, and what processes that have died left of themselves."""
        for name in listed(self.directory / "leases"):
            if name.rpartition(".")[0] in jobs:
                remove(self.directory / "leases" / name)
        for name in listed(self.directory / "workers"):
            if self._has_died(name) and not self._is_locked_here(name):  # one that was stopped may go on
                remove(self.directory / "workers" / name)

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
        parts = (name.rpartition(".") for name in listed(self.directory / "leases"))
        return sorted(int(number) for of, _, number in parts if of == job and number.isdecimal())

    def _is_over(self, lease: Path) -> bool:
        """Whether nobody computes under a lease any more."""
        owner = self._owner(lease)
        if owner == "":  # being written, unless its owner was killed just then
            return self._is_old(lease)
        return owner is None or self._has_died(owner)

    def _owner(self, lease: Path) -> str | None:
        """Who wrote a lease; None where it is away."""
        try:
            return lease.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            is_away(lease, error)
            return None

    def _has_died(self, worker: str) -> bool:
        """Whether a process has ended; owners make their files before leases, and remove them after those."""
        if worker == self.name:
            return False
        if self._is_here(worker) and not self._is_locked_here(worker):
            return True
        return self._is_old(self.directory / "workers" / worker)

    def _is_old(self, path: Path) -> bool:
        """Whether a file was not touched for long, or is away."""
        now = self._now()
        try:
            return now - path.stat().st_mtime > self.seconds
        except ValueError:  # no name that a file could have
            return True
        except OSError as error:
            return is_away(path, error)

    def _is_here(self, worker: str) -> bool:
        """Whether a process is of this host; of one that had only begun there is a draft."""
        return worker.removeprefix(".").rsplit("-", 2)[0] == socket.gethostname()

    def _is_locked_here(self, worker: str) -> bool:
        """Whether a process of this host goes on, as far as locks can tell: where there are none, it seems to."""
        return self._is_here(worker) and not is_unlocked(self.directory / "workers" / worker)

    def _now(self) -> float:
        """What the disk's clock says."""
        while True:
            try:
                self.renew()
                return self._own.stat().st_mtime
            except FileNotFoundError:  # another host took it for a dead process's
                if not self._own.parent.exists():
                    raise FileError(f"{self.directory} was removed while it was in use; run again") from None


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
    file = made_locked(own._own)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(own, ended), daemon=True)
    try:
        beating.start()
        yield own
    finally:
        ended.set()
        if beating.ident is not None:
            beating.join()
        with suppress(OSError, FileError):  # what stays is taken for a dead process's
            for job in list(own._held):
                own.drop(job)
            own._own.unlink(missing_ok=True)
        file.close()


def _beat(own: Leases, ended: threading.Event) -> None:
    while not ended.wait(min(_BEAT, own.seconds / 5)):
        with suppress(OSError):  # a disk that is away for a moment
            own.renew()
