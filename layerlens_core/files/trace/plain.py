"""Values as JSON has them: whatever a field is given, what is written can be read."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import attrs

#: Values that lie deeper than this are told as texts, as circles would never end.
_DEEPEST = 32
#: Whole numbers from here on are told as texts, as readers refuse them.
_LARGEST = 1 << 63


def plain(value: object, depth: int = 0) -> Any:
    """A value of null, truths, whole numbers, finite numbers, texts, lists and objects alone.

    Numpy's scalars and arrays become numbers and lists, paths texts, tuples and sets lists (sets sorted by their
    texts), attrs records objects of their fields, and names of objects texts. Numbers that JSON lacks become texts,
    such as ``nan``, and so does all else, as ``str`` says it. Of names that become equal the last one counts.

    value: anything.
    depth: how deep in another it lies.
    """
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if abs(value) < _LARGEST else _text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if depth < _DEEPEST:
        if attrs.has(type(value)):
            record: Any = type(value)
            names = [each.name for each in attrs.fields(record)]
            return {name: plain(getattr(value, name, None), depth + 1) for name in names}
        if isinstance(value, Mapping):
            return {_text(name): plain(each, depth + 1) for name, each in value.items()}
        if isinstance(value, Set):
            return [plain(each, depth + 1) for each in sorted(value, key=_text)]
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [plain(each, depth + 1) for each in value]
        if callable(as_python := getattr(value, "tolist", None)):  # of numpy, which need not be imported for this
            return plain(as_python(), depth + 1)
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    try:
        return str(value)
    except Exception:  # of somebody else's
        return type(value).__name__
