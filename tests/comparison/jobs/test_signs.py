"""Files that other processes take away."""

import errno
import os

import pytest

from layerlens_core.comparison.jobs import signs
from layerlens_core.comparison.jobs.signs import is_away, is_unlocked, listed, made_locked, remove
from layerlens_core.errors import FileError


def test_a_file_is_locked_until_it_is_closed(tmp_path):
    path = tmp_path / "own"
    with made_locked(path):
        assert listed(tmp_path) == ["own"]
        assert not is_unlocked(path)
    assert is_unlocked(path)


def test_a_draft_that_was_taken_away_is_made_again(tmp_path, monkeypatch):
    path, lock, taken = tmp_path / "own", signs._lock, []

    def late(file):
        lock(file)
        if len(taken) < 2:
            taken.append(file.name)
            os.unlink(file.name)

    monkeypatch.setattr(signs, "_lock", late)
    with made_locked(path):
        assert listed(tmp_path) == ["own"]
        assert not is_unlocked(path)
    assert len(taken) == 2


def test_where_no_file_can_be_it_is_said(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        made_locked(tmp_path / "none" / "own")


def test_what_is_away_is_of_a_process_that_has_ended(tmp_path):
    remove(tmp_path / "none")
    assert is_unlocked(tmp_path / "none")
    assert listed(tmp_path / "none") == []


def test_a_file_that_another_host_took_away_is_away_and_one_that_cannot_be_used_is_told(tmp_path):
    assert is_away(tmp_path, OSError(errno.ESTALE, "Stale file handle"))
    with pytest.raises(FileError, match="cannot be used: Input/output error"):
        is_away(tmp_path, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(FileError, match="cannot be used"):
        remove(tmp_path)
