"""Every change of a single field of a run's files, and the same by somebody who makes all digests anew."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import frozen

from layerlens_core.comparison.compared import COMPARED
from layerlens_core.comparison.jobs.store import COMPARISON
from layerlens_core.files.json_text import writable
from layerlens_core.files.run import GAINS, PLAN, PROFILE, RECIPE, TRACE
from layerlens_core.files.trace.lines import seal

#: The files that are changed.
FILES = (PROFILE, PLAN, TRACE, RECIPE, GAINS)
#: Stands in a document for a number that is spelled as it follows.
_RAW = "\x00raw:"
_MANTISSA = re.compile(r"\d(?=\D*$)")

Place = tuple[Any, ...]


@frozen
class Change:
    """One change of one field.

    file: which file.
    place: keys and indices, in a trace beginning with the number of the line.
    how: in words.
    content: of the whole file after it.
    """

    file: str
    place: Place
    how: str
    content: bytes


def changes(run: Path, name: str, *, first: int = 0, stride: int = 1) -> Iterator[Change]:
    """Every change of a single field of a file, or every so manieth.

    run: the run's directory.
    name: of the file.
    first: which is the first, from 0.
    stride: how many to go on by.
    """
    content = (run / name).read_bytes()
    if name == TRACE:
        yield from islice(_of_lines(content), first, None, stride)
        return
    for place, how, document in islice(_of_document(json.loads(content)), first, None, stride):
        yield Change(name, place, how, _document(document))  # which takes most of the time


def _of_lines(content: bytes) -> Iterator[Change]:
    lines = content.decode().splitlines(keepends=True)

    def joined(at: int, instead: list[str]) -> bytes:
        return "".join([*lines[:at], *instead, *lines[at + 1 :]]).encode()

    for at, line in enumerate(lines):
        yield Change(TRACE, (at + 1,), "line removed", joined(at, []))
        yield Change(TRACE, (at + 1,), "line doubled", joined(at, [line, line]))
        for place, how, event in _of_document(json.loads(line)):
            text = writable(_spelled(json.dumps(event, ensure_ascii=False)))
            yield Change(TRACE, (at + 1, *place), how, joined(at, [f"{text}\n"]))


def _of_document(document: Any) -> Iterator[tuple[Place, str, Any]]:
    """Where, how, and the document after it; one document, which is put back after each."""
    for place in list(_places(document)):
        parent, key = _at(document, place[:-1]), place[-1]
        value = parent[key]
        for how, other in _others(value):
            parent[key] = other
            yield place, how, document
        parent[key] = value
        if isinstance(parent, dict):
            before = dict(parent)
            for how, name in (("key renamed", f"{key}x"), ("key removed", None)):
                parent.pop(key)
                if name is not None:
                    parent[name] = value
                yield place, how, document
                parent.clear()
                parent.update(before)


def _others(value: Any) -> Iterator[tuple[str, Any]]:
    """What may stand in place of a value."""
    if isinstance(value, bool):
        yield "flipped", not value
    elif isinstance(value, int | float):
        yield "last digit", f"{_RAW}{_next(json.dumps(value))}"
    elif isinstance(value, str):
        yield "letter", f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}"
        yield "letter added", f"{value}x"
    elif value is None:
        yield "null", 0
        yield "null", "x"
    elif isinstance(value, list):
        yield "entry added", [*value, copy.deepcopy(value[-1]) if value else "x"]
        for at in range(len(value)):
            yield "entry removed", [*value[:at], *value[at + 1 :]]
    elif isinstance(value, dict):
        yield "key added", {**value, "x": copy.deepcopy(next(iter(value.values()))) if value else 0}


def _next(number: str) -> str:
    """A number with its last digit, before any exponent, changed by one."""
    mantissa, letter, exponent = number.partition("e")
    last = _MANTISSA.search(mantissa)
    assert last is not None
    digit = int(last[0])
    changed = str(digit + 1 if digit < 9 else digit - 1)
    return f"{mantissa[: last.start()]}{changed}{mantissa[last.end() :]}{letter}{exponent}"


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*place, key)
        yield from _places(child, (*place, key))


def _at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


def _document(document: Any) -> bytes:
    return writable(_spelled(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n").encode()


def _spelled(text: str) -> str:
    return re.sub(r'"\\u0000raw:([^"]*)"', r"\1", text)


def forge(run: Path) -> None:
    """Make every digest anew by which files of a run name each other or themselves, as somebody who knows how might."""
    profile = _digest(run / PROFILE)
    _put(run / PLAN, "profile", profile)
    plan = _digest(run / PLAN)
    _put(run / GAINS, "profile", profile)
    for name, digest in (("profile", profile), ("plan", plan), ("comparison", _digest(run / COMPARISON / COMPARED))):
        _put(run / RECIPE, name, digest)
    for name in (RECIPE, GAINS):
        _seal(run / name)
    _forge_trace(run / TRACE, {"profile.finished": run / PROFILE, "plan.made": run / PLAN})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _put(path: Path, name: str, digest: str) -> None:
    """Replace a digest at the top of a document, by text, so that the rest stays as it is."""
    if path.exists():
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf'(\n  "{name}": ")[0-9a-f]*"', rf'\g<1>{digest}"', text, count=1), encoding="utf-8")


def _seal(path: Path) -> None:
    if path.exists():
        _put(path, "sha256", "")
        _put(path, "sha256", _digest(path))


def _parts(path: Path) -> str:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return "{}"
    found = {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]
        for name, part in sorted(document.items())
        if name not in ("schema", "version")
    }
    return json.dumps(found)


def _forge_trace(path: Path, named: dict[str, Path]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if b'"trace.sealed"' in lines[-1]:
        lines.pop()
    for at, line in enumerate(lines):
        for name, file in named.items():
            if f'"event": "{name}"'.encode() in line:
                line = re.sub(rb'("digest": ")[0-9a-f]*"', rb"\g<1>" + _digest(file).encode() + b'"', line, count=1)
                lines[at] = re.sub(rb'("parts": )\{[^}]*\}', rb"\g<1>" + _parts(file).encode(), line, count=1)
    before = b"".join(lines)
    path.write_bytes(before + seal(before).encode())
