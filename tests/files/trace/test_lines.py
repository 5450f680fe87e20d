"""A trace says when any bit of it was changed, or its end is missing; what can be read is read all the same."""

import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_core import tracing
from layerlens_core.errors import FileError
from layerlens_core.files.trace.lines import readable, seal, written

STAMP = {"run_id": "a", "timestamp": "2026-11-02T09:30:00.000000Z"}
EVENTS = [
    {"event": "run.started", "command": "plan", "arguments": {"a": ["1"]}, "versions": {"torch": "2\u2028"}, **STAMP},
    {"event": "mine:it", "share": 0.25, **STAMP},
    {"event": "run.finished", "seconds": 1.5, **STAMP},
]


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text(written(EVENTS), encoding="utf-8")
    return path


def faults(content, path="trace.jsonl"):
    return [str(fault) for fault in readable(content, path).faults]


def test_what_is_written_is_read(trace):
    assert tracing.read(trace.parent) == tracing.read(trace) == EVENTS
    found = tracing.read_what_is_there(trace.parent)
    assert (found.events, found.faults) == (EVENTS, ())
    assert readable(written([]).encode(), trace).events == []


def test_the_seal_holds_what_it_says(trace):
    body, last = trace.read_bytes().rsplit(b"\n", 2)[0] + b"\n", json.loads(trace.read_bytes().splitlines()[-1])
    assert last == {"event": "trace.sealed", "lines": 4, "sha256": hashlib.sha256(body).hexdigest()}
    assert body + seal(body).encode() == trace.read_bytes()


def test_every_byte_counts_the_seals_own_too(trace):
    content = trace.read_bytes()
    for at in range(len(content)):
        for bit in (1, 128):
            changed = bytearray(content)
            changed[at] ^= bit
            with suppress(FileError):  # of the version's own digit
                assert faults(bytes(changed)), (at, bit)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.dictionaries(st.text().filter(lambda name: name not in {*STAMP, "event"}), JSON, max_size=4)


@settings(deadline=None, max_examples=40)
@given(st.lists(FIELDS, max_size=4), st.data())
def test_whatever_a_plugin_tells_is_read_and_one_bit_more_or_less_is_seen(told, pick):
    events = [{"event": "mine:it", **fields, **STAMP} for fields in told]
    content = bytearray(written(events).encode())
    assert readable(bytes(content), "trace.jsonl").faults == ()
    assert repr(readable(bytes(content), "trace.jsonl").events) == repr(events)
    content[pick.draw(st.integers(0, len(content) - 1))] ^= 1 << pick.draw(st.integers(0, 7))
    with suppress(FileError):
        assert faults(bytes(content))


def test_every_end_that_is_missing_is_seen(trace):
    content = trace.read_bytes()
    for length in range(len(content)):
        found = readable(content[:length], trace)
        assert found.faults
        assert found.events == EVENTS[: len(found.events)]
        whole = content[:length].count(b"\n")
        assert len(found.events) >= min(max(whole - 1, 0), len(EVENTS))


def test_lines_that_are_gone_doubled_or_moved_are_seen(trace):
    lines = trace.read_bytes().splitlines(keepends=True)
    for at in range(len(lines)):
        assert faults(b"".join([*lines[:at], *lines[at + 1 :]]))
        assert faults(b"".join([*lines[:at], lines[at], *lines[at:]]))
        assert faults(b"".join([*lines[:at], *lines[at + 1 :], lines[at]])) or at == len(lines) - 1
    assert faults(b"\n".join([*lines, b""]))
    assert faults(trace.read_bytes() + b"\n")


def test_what_is_wrong_is_told_by_its_line_and_the_rest_is_read(trace):
    lines = trace.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"command"', b'"commands"')
    lines[2] = b"[\n"
    assert faults(b"".join(lines)) == [
        "line 2, lacks the field 'command' of run.started",
        "line 3, is not valid JSON: Expecting value: line 1 column 2 (char 1)",
        "line 5, does not seal what is before it: the trace was changed after it was written",
    ]
    trace.write_bytes(b"".join(lines))
    assert tracing.read_what_is_there(trace.parent).events == EVENTS[2:]
    with pytest.raises(FileError, match=r"trace\.jsonl, line 2, lacks the field 'command' of run\.started$"):
        tracing.read(trace.parent)


def test_a_trace_without_its_end_is_told_as_that(trace):
    lines = trace.read_bytes().splitlines(keepends=True)
    assert faults(b"".join(lines[:-1])) == ["is cut short: its last line is not 'trace.sealed'"]
    assert faults(b"") == ["is empty: it was cut short, or never written"]
    assert faults(b"".join([*lines, lines[0], lines[-1]])) == [
        "line 5, is of an event 'trace.sealed', which is the last alone",
        "line 6, is of an event 'trace.opened', which is the first alone",
        "line 7, does not seal what is before it: the trace was changed after it was written",
    ]


def sealed(*lines):
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return body + seal(body).encode()


@pytest.mark.parametrize("version", [0, 2, None, "1", 1.5])
def test_another_version_is_refused_with_what_to_do(trace, version):
    trace.write_bytes(sealed({"event": "trace.opened", "schema": "layerlens/trace", "version": version, "more": 1}))
    for read in (tracing.read, tracing.read_what_is_there):
        with pytest.raises(FileError, match=r"is of version .*; this LayerLens reads version 1\. .* layerlens alloc"):
            read(trace.parent)


def test_a_trace_of_before_there_were_versions_is_told_as_that(trace):
    trace.write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS))
    with pytest.raises(FileError, match=r"line 1, .*an earlier LayerLens wrote it.*layerlens allocate RUN"):
        tracing.read(trace.parent)


def test_another_schema_is_refused():
    assert faults(sealed({"event": "trace.opened", "schema": "another", "version": 1})) == [
        "line 1, is not that of a layerlens/trace file"
    ]
