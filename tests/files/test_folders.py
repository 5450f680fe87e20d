"""Directories that cannot be are told, and those that stay empty are taken away again."""

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.folders import check_directory, make_directory, remove_empty


def test_a_directory_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(FileError, match="file is a file; --out must name a directory"):
            check_directory(place)
    check_directory(tmp_path / "not" / "there" / "yet")


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000])
def test_a_name_that_is_too_long_is_told(tmp_path, name):
    for attempt in (check_directory, make_directory):
        with pytest.raises(FileError, match=r"File name too long"):
            attempt(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_system_does_not_take_is_told(tmp_path):
    with pytest.raises(FileError, match="null byte"):
        make_directory(tmp_path / "a\0b")


def test_what_was_made_is_told_and_goes_where_it_is_empty(tmp_path):
    made = make_directory(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    (tmp_path / "a" / "file").touch()
    remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert make_directory(tmp_path / "a") == []
