"""A run is read with what its trace tells of versions and plugins, or with why that is not known."""

import shutil

import pytest
from auditing.differing.runs import (
    names,
    of_layers,
)

import layerlens_core as ll
from layerlens_core.errors import FileError


def test_without_a_whole_trace_what_it_would_tell_is_said_to_be_unknown(run):
    first, second = run(), run(budget="params=r=6", plugins=())
    (first / "trace.jsonl").unlink()
    found = ll.diff(first, second)
    assert names(found) == ["budget"]
    assert f"with which versions and plugins {first} was planned is not known" in found.remarks[0]
    first = run()
    content = (first / "trace.jsonl").read_bytes()
    (first / "trace.jsonl").write_bytes(content[: len(content) // 2])
    found = ll.diff(first, second)
    assert names(found) == ["budget", "plugins"]
    assert f"the trace of {first} is damaged" in found.remarks[0]


def test_a_run_that_is_not_whole_is_refused(run, tmp_path):
    whole, part = run(), run()
    (part / "plan.json").unlink()
    for pair in ((whole, part), (part, whole), (whole, tmp_path / "none")):
        with pytest.raises(FileError, match="does not exist"):
            ll.diff(*pair)
    other = run(of_layers(3))
    shutil.copy(other / "plan.json", part)
    with pytest.raises(FileError, match="was not made from this profile"):
        ll.diff(whole, part)


def test_nothing_is_emitted_and_nothing_is_written(run):
    first, second = run(), run(budget="params=r=6", normalizer="log")
    before = {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()}
    with ll.capture_events() as events:
        ll.diff(first, second)
    assert events == []
    assert {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()} == before
