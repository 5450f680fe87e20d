"""Our docstrings, which say one parameter or field a line and are read as text, for Sphinx.

- ``name: what it is`` at the beginning of a paragraph, with further lines indented, becomes a field ``:param name:``.
- A paragraph that is indented by itself is shown as it stands.
- ``|x|`` is an absolute value, and ``ModuleList``s a plural; to reStructuredText both would be markup.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_ENTRY = re.compile(r"([a-z_][a-z0-9_]*): ")
_LITERAL = re.compile(r"(``[^`]+``)")
_PLURAL = re.compile(r"(`[^`]+`)(?=\w)")


def _text(line: str) -> str:
    """A line of text, in which nothing is markup but what stands in backticks."""
    parts = _LITERAL.split(line)
    for index in range(0, len(parts), 2):
        part = _PLURAL.sub(r"\1\\ ", parts[index].replace("|", "\\|"))
        parts[index] = f"\\ {part}" if index and part[:1].isalnum() else part
    return "".join(parts)


def readable(lines: list[str]) -> list[str]:
    """The lines of a docstring in reStructuredText."""
    found: list[str] = []
    kind, last = "text", ""
    for index, line in enumerate(lines):
        if not line.strip():
            found.append(line)
            continue
        if index == 0 or not lines[index - 1].strip():  # a paragraph begins
            indented = line.startswith("    ")
            if indented and kind != "literal" and not last.endswith("::"):
                found += ["::", ""]
            kind = "literal" if indented else "fields" if _ENTRY.match(line) and index else "text"
        if kind == "literal":
            found.append(line)
        else:
            entry = kind == "fields" and _ENTRY.match(line)
            found.append(f":param {_text(line)}" if entry else _text(line))
        last = line.rstrip()
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""

    def process(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
        lines[:] = readable(lines)

    def dashed(_app: Sphinx, document: nodes.document) -> None:
        for text in list(document.findall(nodes.Text)):
            if text == " -- ":  # between a parameter and what it is
                text.parent.replace(text, nodes.Text(" – "))

    def without(_app: Sphinx, _what: str, _name: str, found: Any, *_: Any) -> tuple[str, None] | None:
        return ("", None) if getattr(found, "_is_protocol", False) else None  # which nobody makes

    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", without)
    app.connect("doctree-read", dashed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
