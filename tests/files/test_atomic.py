"""Files are written, and directories filled, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.atomic import DONE, NEW, discard, filling, replacing, settle


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


def test_a_file_below_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
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


# --- killed in the middle


class Killed(BaseException):
    """What no handler of the code at hand gets to see, as the process is gone."""


def killed_at(number, work, monkeypatch):
    """Run something that ends at its n-th step with a file, as if the process was gone; whether it came so far."""
    count = 0

    def stepping(function):
        def step(*arguments, **options):
            nonlocal count
            count += 1
            if count >= number:  # and nothing is done after it, by handlers either
                raise Killed
            return function(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir", "fsync", "chmod", "mkdir"):
            patch.setattr(os, name, stepping(getattr(os, name)))
        patch.setattr("shutil.rmtree", stepping(lambda *_arguments, **_options: None))
        try:
            work()
        except Killed:
            return True
    return False


def test_after_a_kill_at_any_step_all_files_are_old_or_all_are_new(tmp_path, monkeypatch):
    old, new = {"one": "1", "gone": "x", "other": "precious"}, {"one": "11", "two": "22", "other": "precious"}
    number, seen = 0, []
    reached = True
    while reached:
        number += 1
        out = tmp_path / str(number)
        out.mkdir()
        for name, text in old.items():
            (out / name).write_text(text)

        def fill(out=out):
            with filling(out) as staging:
                (staging / "one").write_text("11")
                (staging / "two").write_text("22")
                discard(staging, ["gone"])

        reached = killed_at(number, fill, monkeypatch)
        settle(out)
        assert everything(out) in (old, new)
        settle(out)
        seen.append(everything(out) == new)
    assert seen == sorted(seen)
    assert seen.count(False) > 5
    assert seen.count(True) > 5  # killed after the decision, and finished by the next one


def test_a_change_that_cannot_be_finished_is_told_and_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "one").write_text("1")
    (tmp_path / DONE).mkdir()
    (tmp_path / DONE / "one").write_text("11")

    def refuses(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuses)
        with pytest.raises(FileError, match="changed in part, and the rest cannot be done: Permission denied"):
            settle(tmp_path)
    settle(tmp_path)
    assert everything(tmp_path) == {"one": "11"}


def test_what_is_left_of_the_killed_goes_and_what_others_hide_stays(tmp_path):
    for name in (".trace.jsonl.ab12cd_9", ".profile.partial-3.ab12cd_9", ".theirs", ".plan.json.swp"):
        (tmp_path / name).write_text("")
    (tmp_path / NEW).mkdir()
    (tmp_path / NEW / "half").write_text("")
    settle(tmp_path)
    assert everything(tmp_path) == {".theirs": "", ".plan.json.swp": ""}
    settle(tmp_path / "nowhere")


def test_what_was_read_and_not_found_is_not_taken_for_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), filling(tmp_path):
        (tmp_path / "nowhere").read_text()
    assert everything(tmp_path) == {}


def test_nothing_is_made_where_nothing_is_written(tmp_path):
    with filling(tmp_path / "out", lazily=True) as staging:
        assert not staging.exists()
    assert everything(tmp_path) == {}
