"""What is no plain file is told at once, whatever it is, and a file that is too large is not read."""

import os

import pytest

from layerlens_core.errors import FileError
from layerlens_core.files.reading import read_file


def refused(path, said, **options):
    with pytest.raises(FileError, match=said) as caught:
        read_file(path, advice="try another", **options)
    assert str(caught.value).endswith("; try another")


def test_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"ab")
    assert read_file(tmp_path / "file", advice="", most=2) == b"ab"


def test_what_is_no_plain_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "cannot be read: it is no plain file")
    refused(tmp_path, "cannot be read: it is a directory")
    refused(tmp_path / "nowhere", "does not exist")
    refused(tmp_path / "pipe" / "below", "cannot be read: Not a directory")
    refused(tmp_path / ("a" * 300), "cannot be read: File name too long")
    for device in ("/dev/zero", "/dev/full"):
        refused(device, "it is no plain file")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)  # without taking room on the disk
    refused(tmp_path / "file", "its 1,099,511,627,776 bytes are more than the 1,073,741,824")
    refused(tmp_path / "file", "more than the 3 that", most=3)
