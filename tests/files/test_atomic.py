"""A directory is filled whole or not at all."""

from pathlib import Path

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.atomic import filling


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
