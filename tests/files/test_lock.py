"""A directory is written by one process at a time, and by nobody once its process is gone."""

import os
import signal
import subprocess
import sys

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.lock import BusyError, is_held, locked

HOLD = """
import sys, time
from pathlib import Path
from layerlens_core.files.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``run``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_told_in_one_line(holder, tmp_path):
    with (
        pytest.raises(BusyError, match=r"run is being written by another process; wait for it") as caught,
        locked(tmp_path / "run"),
    ):
        pass
    assert isinstance(caught.value, FileError)
    assert "\n" not in str(caught.value)
    assert not is_held(tmp_path / "run")
    with locked(tmp_path / "other"):
        pass


def test_a_kill_releases_it(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run") as held:
        assert held
        assert is_held(tmp_path / "run")


def test_one_process_may_take_it_again_and_lets_go_at_the_end(tmp_path):
    run = tmp_path / "run"
    with locked(run):
        with locked(run):
            pass
        assert is_held(run)
    assert not is_held(run)
    assert not run.exists()


def test_it_is_let_go_where_something_is_raised(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert not is_held(tmp_path)


def test_a_file_system_without_locks_holds_nothing(tmp_path, monkeypatch):
    def refuses(*_arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuses)
    with locked(tmp_path) as held:
        assert not held


def test_a_directory_that_went_meanwhile_is_made_again(tmp_path, monkeypatch):
    run, real, calls = tmp_path / "run", os.open, []

    def opened(path, *arguments, **options):
        descriptor = real(path, *arguments, **options)
        if path == run and not calls:
            calls.append(path)
            run.rmdir()
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    with locked(run):
        (run / "file").touch()
    assert calls
    assert (run / "file").exists()
