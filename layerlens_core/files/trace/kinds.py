"""What a field of an event may be: what says so, and in words for the documentation."""

import math
import re
from collections.abc import Callable

from attrs import frozen

#: As in `layerlens_core.values.costs`, which lies above.
RESOURCES = {"params", "flops", "memory", "latency"}
#: As `layerlens_core.tracing` writes it: UTC, to the microsecond.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@frozen
class Kind:
    """What a field may be.

    words: for people, such as ``list of texts``.
    holds: whether a value, as JSON has it, is of the kind.
    """

    words: str
    holds: Callable[[object], bool]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)


def _spelled(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def or_none(kind: Kind) -> Kind:
    """Of the kind, or null."""
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.holds(value))


def by_name(kind: Kind, words: str) -> Kind:
    """An object, all of whose values are of the kind.

    kind: of the values.
    words: for the object.
    """
    return Kind(words, lambda value: isinstance(value, dict) and all(map(kind.holds, value.values())))


def list_of(kind: Kind, words: str) -> Kind:
    """A list, all of whose entries are of the kind.

    kind: of the entries.
    words: for the list.
    """
    return Kind(words, lambda value: isinstance(value, list) and all(map(kind.holds, value)))


TEXT = Kind("text", lambda value: isinstance(value, str))
NUMBER = Kind("number", _is_number)
COUNT = Kind("whole number from 0", lambda value: type(value) is int and 0 <= value < 1 << 63)
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
TIME = Kind("time, such as 2026-11-02T09:30:00.000000Z", lambda value: _spelled(_TIME, value))
DIGEST = Kind("SHA-256, 64 hexadecimal digits", lambda value: _spelled(_DIGEST, value))
ANYTHING_BY_NAME = by_name(Kind("anything", lambda _value: True), "object")
TEXTS = list_of(TEXT, "list of texts")
NUMBERS = list_of(NUMBER, "list of numbers")
TEXT_BY_NAME = by_name(TEXT, "object of texts")
NUMBER_BY_NAME = by_name(NUMBER, "object of numbers")
COUNT_BY_NAME = by_name(COUNT, "object of whole numbers from 0")
AMOUNTS = Kind(
    f"object of numbers, by {', '.join(sorted(RESOURCES))}",
    lambda value: NUMBER_BY_NAME.holds(value) and isinstance(value, dict) and value.keys() <= RESOURCES,
)
