"""Two documents are equal exactly where no difference is found, and a difference stands where they differ."""

import json
import math

import pytest
from auditing.single import Place, _of_document
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.auditing.fields import count, differences, within
from layerlens_core.auditing.findings import NOTHING

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
DOCUMENTS = st.recursive(
    LEAVES, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3)
)


@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(document):
    assert list(differences(document, json.loads(json.dumps(document)))) == []
    assert count(document) >= 1


def test_every_change_of_one_field_is_one_difference_at_its_place():
    document = {"a": 1.5, "b": {"c.d": [1, "x", None, {"e": True}]}, "f": {}}
    valid = json.dumps(document)
    tried = 0
    for place, how, changed in _of_document(json.loads(valid)):
        if how == "last digit":
            continue  # which is spelled, and no document
        found = list(differences(json.loads(valid), changed))
        assert len(found) >= 1, (place, how)
        assert found[0].field.startswith(_field(place[:-1])), (place, how)
        tried += 1
    assert tried > 20


def _field(place: Place) -> str:
    field = ""
    for each in place:
        field = f"{field}[{each}]" if isinstance(each, int) else within(field, each)
    return field


def test_what_is_missing_or_more_is_told_as_nothing():
    (missing,) = differences({"a": {"b": 1}}, {"a": {}})
    assert (missing.field, missing.expected, missing.found) == ("a.b", 1, NOTHING)
    (more,) = differences({"a": [1]}, {"a": [1, 2]})
    assert (more.field, more.expected, more.found) == ("a (entries)", 1, 2)


@pytest.mark.parametrize("value", [1.0, -3.5e-300, 1e300, 0.1])
def test_ulps_are_of_floats_alone(value):
    near, far = value, value
    for _ in range(16):
        near = math.nextafter(near, math.inf)
    for _ in range(40):
        far = math.nextafter(far, math.inf)
    assert list(differences(value, near, ulps=16)) == []
    assert list(differences(value, near))
    assert list(differences(value, far, ulps=16))
    assert list(differences(1, 2, ulps=16))
    assert list(differences(True, 1))
