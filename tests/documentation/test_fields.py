"""docs/reference/files.md has a row for every field of every record in the documents that hold decisions.

Written anew by ``LAYERLENS_WRITE_FIELDS=1 pytest tests/documentation/test_fields.py``.
"""

import inspect
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from layerlens_core.values import gains, plan, profile, recipe

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "files.md"
MARK = "<!-- made from the records by tests/documentation/test_fields.py -->\n"
WRITE = "LAYERLENS_WRITE_FIELDS"
#: Document -> the record that it holds, and its module.
ROOTS = {
    "profile.json": (profile.Profile, profile),
    "plan.json": (plan.Plan, plan),
    "recipe.json": (recipe.Recipe, recipe),
    "gains.json": (gains.Gains, gains),
}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}


def records_in(kind):
    """The records that a type is made of, in order."""
    if isinstance(kind, type) and attrs.has(kind):
        return [kind]
    return [record for part in typing.get_args(kind) for record in records_in(part)]


def words(kind):
    """A type in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and attrs.has(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if kind in _WORDS:
        return _WORDS[kind]
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(words(part) for part in parts).replace("whole number or number", "number")
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"list of {words(parts[0])}"
        return "list of " + ", ".join(words(part) for part in parts)
    if origin in (Mapping, dict):
        return f"object, of {words(parts[1])} by name"
    raise TypeError(f"no words for {kind}")


def meanings(record):
    """By field, what the record's docstring says of it, and the record in a sentence or more."""
    paragraphs = inspect.cleandoc(record.__doc__).split("\n\n")
    found = {}
    names = {field.name for field in attrs.fields(record)}
    for paragraph in paragraphs:
        name = None
        for line in paragraph.split("\n"):
            begins = re.match(r"([a-z_][a-z0-9_]*): (.*)", line)
            if begins and begins[1] in names:
                name, line = begins[1], begins[2]
            if name is not None:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return paragraphs[0].replace("\n", " "), found


def tables():
    """The part of the page that follows from the records."""
    lines, sections, told = [""], [], set()
    for name, (root, module) in ROOTS.items():
        sections.append((f"`{name}`", root, f"Schema `{module.SCHEMA}`, version {module.VERSION}. "))
    for title, record, before in sections:  # which grows
        if record in told:
            continue
        told.add(record)
        what, found = meanings(record)
        rows = []
        for field in attrs.fields(record):
            kind = typing.get_type_hints(record)[field.name]
            text = found[field.name].replace("``", "`").replace("|", "\\|")
            rows.append(f"| `{field.name}` | {words(kind)} | {text} |")
            sections += [(f"`{each.__name__}`", each, "") for each in records_in(kind)]
        lines += [f"## {title}", "", (before + what).replace("``", "`"), ""]
        lines += ["| field | is | what |", "|---|---|---|", *rows, ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def test_every_field_has_its_row():
    before, mark, found = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    assert mark
    if WRITE in os.environ:
        DOCUMENT.write_text(before + mark + tables(), encoding="utf-8")
    else:
        assert found == tables(), f"write it anew: {WRITE}=1 pytest tests/documentation/test_fields.py"


@pytest.mark.parametrize("name", ROOTS)
def test_a_record_with_a_field_that_nothing_is_said_of_would_fail(name, monkeypatch):
    root, _ = ROOTS[name]
    first = attrs.fields(root)[0].name
    monkeypatch.setattr(root, "__doc__", root.__doc__.replace(f"{first}: ", f"({first}) ", 1))
    with pytest.raises(KeyError, match=first):
        tables()
