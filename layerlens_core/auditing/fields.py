"""Two values of what JSON has, compared field by field."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from layerlens_core.auditing.findings import NOTHING


@frozen
class Difference:
    """A field of which two values say different things.

    field: its path.
    expected: what one has there; `NOTHING` where it has no such field.
    found: likewise the other.
    """

    field: str
    expected: Any
    found: Any


def differences(expected: Any, found: Any, *, ulps: int = 0, field: str = "") -> Iterator[Difference]:
    """Where two values differ, in the order of the expected one.

    expected: of what JSON has.
    found: likewise.
    ulps: by how many units in the last place floats may differ; whole numbers have to be equal.
    field: where in the document the values stand.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in (*expected, *(key for key in found if key not in expected)):
            one, other = expected.get(key, NOTHING), found.get(key, NOTHING)
            if key in expected and key in found:
                yield from differences(one, other, ulps=ulps, field=within(field, key))
            else:
                yield Difference(within(field, key), one, other)
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        for index, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, ulps=ulps, field=f"{field}[{index}]")
        if len(expected) != len(found):
            yield Difference(f"{field} (entries)", len(expected), len(found))
    elif not _equal(expected, found, ulps):
        yield Difference(field, expected, found)


def within(field: str, key: str) -> str:
    """The path of an entry: ``sizes["layer.0.query"]``, or ``cost.params`` for a plain name."""
    return f"{field}.{key}".removeprefix(".") if key.isidentifier() else f'{field}["{key}"]'


def count(value: Any) -> int:
    """How many values a document holds that are neither objects nor lists; an empty one counts as one."""
    if isinstance(value, Mapping):
        return sum(map(count, value.values())) or 1
    if isinstance(value, list | tuple):
        return sum(map(count, value)) or 1
    return 1


def _equal(expected: Any, found: Any, ulps: int) -> bool:
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if ulps and isinstance(expected, float) and isinstance(found, float) and math.isfinite(expected):
        return abs(expected - found) <= ulps * math.ulp(expected)
    return bool(expected == found)
