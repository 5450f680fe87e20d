"""The lines of a trace: opened by its schema, sealed by a digest of all that is before, and read strictly."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from layerlens_core.errors import VersionError, brief
from layerlens_core.files.json_text import parse_strict, writable
from layerlens_core.files.trace.events import OPENED, SCHEMA, SEALED, VERSION, Event, wrong_event


@frozen
class Fault:
    """What is wrong with a trace.

    line: the number of the line, from 1; None of the whole.
    what: in words that follow "line 7" or the file's name.
    kind: of a line; of the seal, which is not that of the lines before it; or of the end, which is not there.
    """

    line: int | None
    what: str
    kind: Literal["line", "seal", "end"] = "line"

    def __str__(self) -> str:
        return self.what if self.line is None else f"line {self.line}, {self.what}"


@frozen
class Readable:
    """What can be read of a trace.

    events: as they were emitted, without the first line and the last, which are the file's own.
    faults: what is wrong, in the order of lines; empty for a trace that is whole and as it was written.
    """

    events: list[dict[str, Any]]
    faults: tuple[Fault, ...]


def written(events: Iterable[Event]) -> str:
    """The text of a trace.

    events: in their order, of what JSON has.
    """
    opening: Event = {"event": OPENED, "schema": SCHEMA, "version": VERSION}
    lines = [_line(event) for event in (opening, *events)]
    return "".join([*lines, seal("".join(lines).encode("utf-8"))])


def readable(content: bytes, path: Path) -> Readable:
    """What can be read of a trace's bytes.

    content: of the file.
    path: of the file, for the message.

    Raises `VersionError` where the trace is of another version.
    """
    # Bytes are split at "\n" alone, unlike text, and a line that is cut off has no end.
    *lines, rest = content.split(b"\n")
    ends = [b"\n"] * len(lines)
    if rest:
        lines.append(rest)
        ends.append(b"")
    events: list[dict[str, Any]] = []
    faults: list[Fault] = []
    before = 0
    sealed = False
    for number, (line, end) in enumerate(zip(lines, ends, strict=True), start=1):
        event, wrong = _event(line)
        if number == 1 and event is not None:
            wrong = _wrong_opening(event, path) or wrong
        elif event is not None and wrong is None and event["event"] == OPENED:
            wrong = f"is of an event {OPENED!r}, which is the first alone"
        elif event is not None and event["event"] == SEALED:
            sealed = number == len(lines)
            if wrong is None and sealed and line + end != seal(content[:before]).encode("utf-8"):
                faults.append(Fault(number, _UNSEALED, "seal"))
            elif not sealed:
                wrong = wrong or f"is of an event {SEALED!r}, which is the last alone"
        if wrong is not None:
            faults.append(Fault(number, wrong))
        elif event is not None and event["event"] not in (OPENED, SEALED):
            events.append(event)
        before += len(line + end)
    if not lines:
        faults.append(Fault(None, "is empty: it was cut short, or never written", "end"))
    elif not sealed:
        faults.append(Fault(None, f"is cut short: its last line is not {SEALED!r}", "end"))
    return Readable(events, tuple(faults))


def _event(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """An event, where a line is one, and what is wrong with it."""
    try:
        event = parse_strict(line.decode("utf-8"))
    except ValueError as error:
        return None, f"is not valid JSON: {brief(error)}"
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None, "is no event of a trace"
    if event["event"] == OPENED and event.get("version") != VERSION:
        return event, None  # another version may have other fields
    wrong = wrong_event(event)
    return event, None if wrong is None else brief(wrong)


def _wrong_opening(event: Event, path: Path) -> str | None:
    if event["event"] != OPENED:
        return (
            f"is not {OPENED!r}: an earlier LayerLens wrote it, or its beginning is gone; this LayerLens reads version "
            f"{VERSION}. {_ADVICE}"
        )
    if event.get("schema") != SCHEMA:
        return f"is not that of a {SCHEMA} file"
    if event.get("version") != VERSION:
        raise VersionError(
            f"{path} is of version {brief(event.get('version'))}; this LayerLens reads version {VERSION}. {_ADVICE}"
        )
    return None


_UNSEALED = "does not seal what is before it: the trace was changed after it was written"
_ADVICE = "Make the run anew, or remove the file and plan anew with: layerlens allocate RUN"


def seal(before: bytes) -> str:
    """The last line of a trace.

    before: all other lines, as they are on the disk.
    """
    digest = hashlib.sha256(before).hexdigest()
    return _line({"event": SEALED, "lines": before.count(b"\n"), "sha256": digest})


def _line(event: Event) -> str:
    return writable(json.dumps(event, ensure_ascii=False, allow_nan=False)) + "\n"
