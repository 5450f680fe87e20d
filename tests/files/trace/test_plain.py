"""Whatever a field is given becomes what JSON has, and what JSON has stays as it is."""

import enum
import json
import math
from collections import OrderedDict
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_core.files.json_text import parse_strict, writable
from layerlens_core.files.trace.plain import plain
from layerlens_core.values.costs import Cost


@frozen
class Record:
    name: str
    inside: object


class Colour(enum.IntEnum):
    RED = 3


class Silent:
    def __str__(self):
        raise RuntimeError("nothing to say")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(st.characters(codec="utf-8")), inside),
    max_leaves=20,
)
NAMES = st.text() | st.integers() | st.floats() | st.none() | st.tuples(st.integers(), st.text())
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.dates()
    | st.decimals()
    | st.builds(Path, st.text(st.characters(exclude_characters="\0")))
    | st.builds(np.float32, st.floats(width=32))
    | st.builds(np.float64, st.floats())
    | st.builds(np.int8, st.integers(-128, 127))
    | st.builds(np.bool_, st.booleans())
    | st.builds(np.str_, st.text())
    | st.builds(lambda values: np.array(values), st.lists(st.floats(), max_size=3))
    | st.sampled_from([Colour.RED, object(), Silent(), len, Cost(params=3), np.datetime64("2026-01-01"), range(3)]),
    lambda inside: (
        st.lists(inside)
        | st.lists(inside).map(tuple)
        | st.dictionaries(NAMES, inside)
        | st.dictionaries(st.text(), inside).map(OrderedDict)
        | st.dictionaries(st.text(), inside).map(MappingProxyType)
        | st.frozensets(st.integers() | st.text())
        | st.builds(Record, st.text(), inside)
    ),
    max_leaves=20,
)


def same(one, other):
    """Equal in types too, as 1, 1.0 and True are not."""
    return type(one) is type(other) and repr(one) == repr(other)


@settings(deadline=None)
@given(JSON)
def test_what_json_has_stays_as_it_is(value):
    assert same(plain(value), value)


@settings(deadline=None)
@given(ANYTHING)
def test_anything_can_be_written_and_is_read_as_it_is_told(value):
    told = plain(value)
    text = writable(json.dumps(told, ensure_ascii=False, allow_nan=False))
    text.encode("utf-8")
    assert same(parse_strict(text), told)
    assert same(plain(told), told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(2.5), 2.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.float32("inf"), "inf"),
        (2**63, str(2**63)),
        (Path("a/b"), "a/b"),
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal("0.5"), "0.5"),
        (Colour.RED, 3),
        ({"b", "a"}, ["a", "b"]),
        ((1, (2,)), [1, [2]]),
        ({1: "a", None: 2}, {"1": "a", "None": 2}),
        (Record("n", Record("m", Path("x"))), {"name": "n", "inside": {"name": "m", "inside": "x"}}),
        (Silent(), "Silent"),
        (b"ab", "b'ab'"),
    ],
)
def test_each_kind_of_value_is_told_in_its_way(value, told):
    assert same(plain(value), told)


def test_a_number_that_has_no_text_is_told_by_its_type():
    assert plain(10**5000) == "int"


def test_a_circle_and_great_depth_come_to_an_end():
    circle = []
    circle.append(circle)
    assert json.dumps(plain(circle))
    deep = {}
    for _ in range(100):
        deep = {"in": deep}
    assert json.dumps(plain(deep))
