"""A small part of tests/benchmarks/mutations.py: no changed file gives an error of another's, or says two things."""

import random

import pytest

from mutation.content import as_json, as_lines, as_safetensors, bytewise
from mutation.judging import judge
from mutation.readers import Reader
from mutation.registry import READERS

#: Files of each reader.
COUNT = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("mutations")


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_refused_or_read_as_what_they_say(root, tmp_path, name):
    found = judge(READERS[name](root), tmp_path, COUNT, f"tests {name}")
    assert found.faults == []
    assert found.refused + found.equal + found.other == COUNT
    assert found.refused > COUNT // 5


def reading(tmp_path, read, again=lambda found, place: found):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "file").write_text("{}")
    (tmp_path / "work").mkdir()
    targets = {"file": (bytewise,)}
    return Reader(folder=tmp_path / "valid", targets=targets, read=read, again=again)


def test_an_error_that_is_not_ours_is_a_fault_and_so_is_an_end_of_the_process(tmp_path):
    import os

    def read(place):
        if place.name == "2":
            os._exit(0)
        if place.name == "4":
            raise KeyError("a field")
        return 1

    found = judge(reading(tmp_path, read), tmp_path / "work", 6, "0")
    assert [fault.partition(":")[0] for fault in found.faults] == ["file 2", "file 4"]
    assert "KeyError" in found.faults[1]
    assert found.equal == 4


def test_what_takes_too_much_or_says_two_things_is_a_fault(tmp_path):
    def read(place):
        if place.name == "0":
            return len(bytearray(2 << 30))
        return place.name

    found = judge(reading(tmp_path, read, again=lambda found, place: "another"), tmp_path / "work", 2, "0")
    assert "MemoryError" in found.faults[0]
    assert "read as something else" in found.faults[1]


def test_changes_depend_on_the_seed_alone_and_change_something():
    document = b'{"a": [1, 2.5, {"b": "text"}], "c": null}'
    tensors = (len(document)).to_bytes(8, "little") + document + bytes(64)
    for how, content in (
        (as_json, document),
        (as_lines, document * 2),
        (bytewise, document),
        (as_safetensors, tensors),
    ):
        if how is as_lines:
            content = document + b"\n" + document
        one, other = ([how(content, random.Random(f"{seed}")) for seed in range(200)] for _ in range(2))
        assert one == other
        assert len(set(one)) > 80
