"""One owner a job, and owners that die."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from layerlens_core.comparison.jobs.leases import Leases, leasing
from layerlens_core.comparison.jobs.signs import listed
from layerlens_core.errors import FileError
from scripts import environment

#: Takes a job, and waits to be killed.
OWNER = """
import sys, time
from pathlib import Path
from layerlens_core.comparison.jobs.leases import leasing
with leasing(Path(sys.argv[1])) as leases:
    print(leases.take("job"), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that has a job's lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def make_old(path, seconds=3600):
    os.utime(path, (time.time() - seconds,) * 2)


def foreign(directory, *jobs, host="elsewhere"):
    """What a process of another host left: its own file, and its leases."""
    for folder in ("workers", "leases"):
        (directory / folder).mkdir(exist_ok=True)
    worker = directory / "workers" / f"{host}-1-abcd"
    worker.touch()
    for job in jobs:
        (directory / "leases" / f"{job}.1").write_text(worker.name)
    return worker


def test_of_many_that_ask_at_once_one_gets_each_job(tmp_path):
    got, ready = [], threading.Barrier(8)

    def asks():
        with leasing(tmp_path) as leases:
            ready.wait()
            got.extend(str(job) for job in range(50) if leases.take(str(job)))
            ready.wait()

    threads = [threading.Thread(target=asks) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(job) for job in range(50)]


def test_of_many_that_take_over_at_once_one_gets_each_job(tmp_path):
    make_old(foreign(tmp_path, *map(str, range(50))))
    test_of_many_that_ask_at_once_one_gets_each_job(tmp_path)
    assert [name for name in files(tmp_path / "leases") if name.endswith(".2")] == []


def test_a_lease_is_kept_by_whoever_lives_and_given_back_in_the_end(tmp_path, owner):
    with leasing(tmp_path) as leases:
        assert not leases.take("job")
        assert leases.take("other")
        assert leases.take("other")
        leases.drop("other")
        assert files(tmp_path / "leases") == ["job.1"]
        leases.take("third")
    assert files(tmp_path / "leases") == ["job.1"]
    assert len(files(tmp_path / "workers")) == 1


def test_a_killed_owner_of_this_host_is_followed_without_waiting_for_its_lease_to_end(tmp_path, owner):
    owner.kill()
    owner.wait()
    with leasing(tmp_path, 3600) as leases:
        assert leases.take("job")
        assert files(tmp_path / "leases") == ["job.1", "job.2"]
        leases.drop("job")
    assert files(tmp_path / "leases") == []


def test_an_owner_of_another_host_is_followed_when_it_gave_no_sign_for_long(tmp_path):
    worker = foreign(tmp_path, "job")
    with leasing(tmp_path, 60) as leases:
        make_old(worker, 50)
        assert not leases.take("job")
        make_old(worker, 70)
        assert leases.take("job")


def test_ages_are_told_by_the_disks_clock(tmp_path, monkeypatch):
    foreign(tmp_path, "job")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with leasing(tmp_path, 60) as leases:
        assert not leases.take("job")


def test_a_lease_whose_owner_was_killed_before_it_gave_its_name_ends_too(tmp_path):
    with leasing(tmp_path, 60) as leases:
        lease = tmp_path / "leases" / "job.1"
        lease.touch()
        assert not leases.take("job")
        make_old(lease)
        assert leases.take("job")


def test_a_lease_of_an_owner_that_has_gone_is_over(tmp_path):
    foreign(tmp_path, "job").unlink()
    with leasing(tmp_path) as leases:
        assert leases.take("job")


def test_signs_of_life_are_given(tmp_path):
    with leasing(tmp_path, 0.05):
        (own,) = (tmp_path / "workers").iterdir()
        make_old(own)
        for _ in range(1000):
            if time.time() - own.stat().st_mtime < 1800:
                return
            time.sleep(0.01)
    pytest.fail("the file was never touched again")


def test_what_the_dead_left_of_jobs_that_are_done_goes_away(tmp_path):
    dead = foreign(tmp_path, "job", "other")
    make_old(dead)
    alive = foreign(tmp_path, host="here")
    with leasing(tmp_path) as leases:
        leases.forget({"job"})
        assert files(tmp_path) == sorted(["other.1", alive.name, leases.name])


def test_the_file_of_a_process_that_was_stopped_for_long_stays_while_it_holds_its_lock(tmp_path, owner):
    make_old(next((tmp_path / "workers").iterdir()))
    with leasing(tmp_path, 1000) as leases:
        assert leases.take("job")
        leases.forget({"job"})
        assert len(files(tmp_path / "workers")) == 2
    owner.kill()
    owner.wait()
    with leasing(tmp_path) as leases:
        leases.forget({"job"})
        assert files(tmp_path) == [leases.name]


def test_somebody_is_at_work_until_they_have_died(tmp_path):
    assert not Leases.at_work(tmp_path)
    worker = foreign(tmp_path)
    assert Leases.at_work(tmp_path)
    make_old(worker)
    assert not Leases.at_work(tmp_path)


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "leases").touch()
    with pytest.raises(FileError, match="leases"), leasing(tmp_path):
        pass


HERE = socket.gethostname()


@pytest.mark.parametrize("host", [HERE, "elsewhere"], ids=["here", "elsewhere"])
@pytest.mark.parametrize("use", ["forget", "take", "drop", "clear", "at_work"])
def test_what_is_taken_away_between_a_look_and_a_use_is_of_the_dead(tmp_path, monkeypatch, host, use):
    with leasing(tmp_path) as leases:
        leases.take("own")
        foreign(tmp_path, "job", host=host)

        def vanishing(directory):
            names = listed(directory)
            for name in names:
                if name != leases.name:
                    (directory / name).unlink()
            return names

        monkeypatch.setattr("layerlens_core.comparison.jobs.leases.listed", vanishing)
        if use == "at_work":
            assert Leases.at_work(tmp_path)  # this one is
        elif use == "forget":
            leases.forget({"job"})
        else:
            getattr(leases, use)("own" if use == "drop" else "job")
    assert files(tmp_path / "leases") == []


def test_of_two_that_looked_while_a_lease_was_given_back_one_gets_the_job(tmp_path, monkeypatch):
    look, late = Leases._of, []
    with leasing(tmp_path) as leases, leasing(tmp_path) as other:

        def looks(self, job):
            if self is leases and not late:
                late.append(job)
                assert other.take(job)
                return [3]  # a dead owner's, as it was before it was given back
            return look(self, job)

        monkeypatch.setattr(Leases, "_of", looks)
        assert not leases.take("job")
        assert files(tmp_path / "leases") == ["job.1"]
        assert other.take("job")


def test_what_was_taken_over_in_the_meantime_is_not_given_back(tmp_path):
    with leasing(tmp_path) as stopped, leasing(tmp_path) as other:
        stopped.take("job")
        (tmp_path / "leases" / "job.1").unlink()  # by one that took it over, and has ended
        assert other.take("job")
        stopped.drop("job")
        assert not stopped.take("job")


def test_a_lease_that_the_dead_left_is_cleared_and_no_other(tmp_path, owner):
    make_old(foreign(tmp_path, "done"))
    with leasing(tmp_path) as leases:
        for job in ("done", "job", "none"):
            leases.clear(job)
    assert files(tmp_path / "leases") == ["job.1"]


def test_a_process_that_was_killed_as_it_began_goes_away_at_once(tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / f".{HERE}-1-abcd").touch()
    assert not Leases.at_work(tmp_path)
    with leasing(tmp_path) as leases:
        leases.forget(set())
        assert files(tmp_path) == [leases.name]


def test_a_process_whose_own_file_was_taken_away_goes_on_and_takes_nobody_for_dead(tmp_path, monkeypatch):
    foreign(tmp_path, "job")
    renew, gone = Leases.renew, []
    with leasing(tmp_path) as leases:

        def taken_away(self):
            renew(self)
            if not gone:
                gone.append(True)
                (tmp_path / "workers" / self.name).unlink()

        monkeypatch.setattr(Leases, "renew", taken_away)
        assert not leases.take("job")
        assert gone
        shutil.rmtree(tmp_path / "workers")
        with pytest.raises(FileError, match="was removed while it was in use"):
            leases.take("job")
