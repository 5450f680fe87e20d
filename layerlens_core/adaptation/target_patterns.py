"""Regular expressions that match exact module names, for PEFT's files, which know names by pattern only; and back."""

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


#: Of patterns that are read: names that one may stand for, the length of a name, and groups within one another.
_MOST_NAMES = 200_000
_LONGEST_NAME = 1_000
_MOST_GROUPS = 100
_SPECIAL = frozenset(r".^$*+?{}[]\|()")


def names_in(pattern: str) -> frozenset[str] | None:
    """The names that a pattern matches, if it is one that `exactly` could have written; None for any other.

    Nothing is matched, so that a stranger's pattern costs no more than reading it.
    """
    if not (pattern.startswith("^") and pattern.endswith("$") and pattern.isprintable()):
        return None
    try:
        names, rest = _branches(pattern[1:-1], 0, 0)
    except _Foreign:
        return None
    return frozenset(names) if rest == len(pattern) - 2 and "" not in names else None


class _Foreign(Exception):
    """A pattern of another kind."""


def _branches(text: str, at: int, depth: int) -> tuple[list[str], int]:
    """What stands between bars, from a place to the end of its group, and where that is."""
    if depth > _MOST_GROUPS:
        raise _Foreign
    found: list[str] = []
    while True:
        names, at = _sequence(text, at, depth)
        found += names
        if len(found) > _MOST_NAMES:
            raise _Foreign
        if at == len(text) or text[at] == ")":
            return found, at
        at += 1  # the bar


def _sequence(text: str, at: int, depth: int) -> tuple[list[str], int]:
    """What stands before the next bar, or the end of the group."""
    found, literal = [""], ""
    while at < len(text) and text[at] not in "|)":
        if text.startswith("(?:", at):
            parts, at = _branches(text, at + 3, depth + 1)
            if at == len(text):
                raise _Foreign
            at += 1
            if text.startswith("?", at):
                parts, at = ["", *parts], at + 1
            if len(found) * len(parts) > _MOST_NAMES:
                raise _Foreign
            found, literal = [name + literal + part for name in found for part in parts], ""
            if max(map(len, found)) > _LONGEST_NAME:
                raise _Foreign
        elif text[at] == "\\" and at + 1 < len(text) and not text[at + 1].isalnum():
            literal, at = literal + text[at + 1], at + 2
        elif text[at] not in _SPECIAL:
            literal, at = literal + text[at], at + 1
        else:
            raise _Foreign
        if len(literal) > _LONGEST_NAME:
            raise _Foreign
    return [name + literal for name in found], at
