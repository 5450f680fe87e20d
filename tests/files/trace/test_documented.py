"""docs/trace.md has a table of every event, as the code's table says.

Written anew by ``LAYERLENS_WRITE_TRACE=1 pytest tests/files/trace/test_documented.py``.
"""

import os
from pathlib import Path

from layerlens_core.files.trace.events import COMMON, EVENTS, SCHEMA, VERSION

DOCUMENT = Path(__file__).parents[3] / "docs" / "trace.md"
MARK = "<!-- made from layerlens_core/files/trace/events.py by tests/files/trace/test_documented.py -->\n"
WRITE = "LAYERLENS_WRITE_TRACE"


def table(fields):
    rows = [f"| `{name}` | {each.kind.words} | {each.meaning.replace('``', '`')} |" for name, each in fields.items()]
    return ["| field | is | what |", "|---|---|---|", *rows, ""]


def tables():
    """The part of the document that follows from the code."""
    lines = ["", *table(COMMON), "## The events", ""]
    for name, each in EVENTS.items():
        of_profile = " Of profiling." if each.of_profile else ""
        meaning = each.meaning[0].upper() + each.meaning[1:]
        lines += [f"### `{name}`", "", f"{meaning}.{of_profile}", "", *table(each.fields)]
    return "\n".join(lines).rstrip("\n") + "\n"


def test_every_event_has_its_table():
    before, mark, found = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    assert mark
    if WRITE in os.environ:
        DOCUMENT.write_text(before + mark + tables(), encoding="utf-8")
    else:
        assert found == tables()
    assert f'"schema": "{SCHEMA}", "version": {VERSION}' in before
