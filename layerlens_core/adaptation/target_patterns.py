"""Regular expressions that match exact module names, for PEFT's files, which know names by pattern only."""

import re
from collections.abc import Iterable
from typing import Any


def exactly(names: Iterable[str]) -> str:
    """A pattern that matches these full names and nothing else, under both ways in which PEFT matches.

    PEFT matches names by suffix and condenses long lists of names, so that ``layers.1.`` can hit layer 11 and a vision
    tower the text model. An anchored alternation cannot. It is written as a tree over the dotted parts of the names,
    since a flat alternation of thousands of names takes time in proportion to their number for each match.
    """
    tree: dict[str, Any] = {}
    for name in names:
        node = tree
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[""] = {}  # a name ends here
    return f"^{_alternatives(tree)}$"


def _alternatives(node: dict[str, Any]) -> str:
    """What may follow at this place of the tree; names that continue alike are written once."""
    by_rest: dict[str, list[str]] = {}
    for part, child in node.items():
        if part:
            by_rest.setdefault(_rest(child), []).append(re.escape(part))
    branches = [_group(sorted(parts)) + rest for rest, parts in by_rest.items()]
    return _group(sorted(branches))


def _rest(child: dict[str, Any]) -> str:
    continued = {part: rest for part, rest in child.items() if part}
    if not continued:
        return ""
    rest = r"\." + _alternatives(continued)
    return f"(?:{rest})?" if "" in child else rest


def _group(branches: list[str]) -> str:
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
