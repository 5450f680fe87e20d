"""Files are written, and directories filled, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.atomic import filling, replacing
from layerlens_core.files.folders import check_directory


def everything(path: Path) -> dict[str, str | None]:
    return {str(p.relative_to(path)): p.read_text() if p.is_file() else None for p in path.rglob("*")}


def test_files_take_their_places_together(tmp_path):
    out = tmp_path / "new" / "out"
    with filling(out) as staging:
        (staging / "one").write_text("1")
        (staging / "two").write_text("2")
        assert {path.name for path in out.iterdir() if path.is_file()} == set()
    assert everything(out) == {"one": "1", "two": "2"}


def test_files_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "one").write_text("old")
    (tmp_path / "other").write_text("precious")
    with filling(tmp_path) as staging:
        (staging / "one").write_text("new")
        assert (tmp_path / "one").read_text() == "old"
    assert everything(tmp_path) == {"one": "new", "other": "precious"}


def test_an_exception_leaves_all_as_it_was(tmp_path):
    (tmp_path / "one").write_text("old")
    before = everything(tmp_path)

    def interrupted(out):
        with filling(out) as staging:
            (staging / "one").write_text("new")
            raise KeyboardInterrupt

    for out in (tmp_path, tmp_path / "new" / "out"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(out)
        assert everything(tmp_path) == before


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileError, match="file is a file; --out must name a directory"),
        filling(tmp_path / "file" / "x"),
    ):
        pass


def test_a_file_takes_its_place_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with replacing(path) as file:
        file.write("ü\n")
        assert not path.exists()
    assert path.read_bytes() == "ü\n".encode()
    assert everything(tmp_path) == {"new": None, "new/folder": None, "new/folder/file": "ü\n"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_that_is_not_completed_leaves_all_as_it_was(tmp_path, error):
    (tmp_path / "file").write_text("old")
    before = everything(tmp_path)

    def interrupted(path):
        with replacing(path) as file:
            file.write("new")
            raise error

    for path in (tmp_path / "file", tmp_path / "new" / "folder" / "file"):
        with pytest.raises(error):
            interrupted(path)
        assert everything(tmp_path) == before


def test_a_folder_that_somebody_else_used_meanwhile_stays(tmp_path):
    def interrupted():
        with replacing(tmp_path / "new" / "folder" / "file"):
            (tmp_path / "new" / "theirs").write_text("precious")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert everything(tmp_path) == {"new": None, "new/theirs": "precious"}


def test_files_get_the_mode_of_any_other_file(tmp_path):
    previous = os.umask(0o027)
    try:
        with replacing(tmp_path / "alone"):
            pass
        with filling(tmp_path / "folder") as staging:
            (staging / "among").touch(mode=0o600)
    finally:
        os.umask(previous)
    for path in (tmp_path / "alone", tmp_path / "folder" / "among"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_directory_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(FileError, match="file is a file; --out must name a directory"):
            check_directory(place)
    check_directory(tmp_path / "not" / "there" / "yet")
    with pytest.raises(FileError, match="is a file"), replacing(tmp_path / "file" / "below"):
        pass


def test_what_the_system_refuses_is_told_with_its_reason(tmp_path, monkeypatch):
    def refuses(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkstemp", refuses)
        with pytest.raises(FileError, match="file cannot be written: No space left"), replacing(tmp_path / "file"):
            pass
    for step in ("mkdir", "rename", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(Path if step == "mkdir" else os, step, refuses)
            with pytest.raises(FileError, match="No space left"), filling(tmp_path / "out") as staging:
                (staging / "one").write_text("1")
        assert everything(tmp_path) == {}
