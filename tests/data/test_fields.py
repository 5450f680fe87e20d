"""What the rows hold follows from their fields, or from the options that name them."""

from typing import Any

import pytest

from layerlens_core.data.fields import Fields, find_fields, label_names
from layerlens_core.errors import DataError


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "x"}, Fields(form="text")),
        ({"id": 1, "sentence": "x"}, Fields(form="text", text="sentence")),
        ({"text": "x", "label": 1}, Fields(form="text-label")),
        ({"utterance": "x", "intent": "a"}, Fields(form="text-label", text="utterance", label="intent")),
        ({"content": "x", "target": "a"}, Fields(form="text-label", text="content", label="target")),
        ({"prompt": "x", "completion": "y"}, Fields(form="prompt-completion")),
        ({"messages": [], "id": 1}, Fields(form="messages")),
        ({"messages": [], "prompt": "x", "completion": "y"}, Fields(form="messages")),
        ({"text": "x", "sentence": "y"}, Fields(form="text", text="text")),
    ],
)
def test_forms_are_found_by_the_fields(row: dict[str, Any], expected: Fields) -> None:
    assert find_fields([row]) == expected


def test_names_that_are_given_win() -> None:
    row = {"text": "x", "body": "y", "label": 1, "kind": 2, "prompt": "p", "completion": "c", "messages": []}
    assert find_fields([row], text="body") == Fields(form="text-label", text="body", label="label")
    assert find_fields([row], text="body", label="kind") == Fields(form="text-label", text="body", label="kind")
    assert find_fields([row], label="kind") == Fields(form="text-label", text="text", label="kind")


def test_the_task_decides_whether_labels_count() -> None:
    row = {"text": "x", "label": 1, "prompt": "p", "completion": "c"}
    assert find_fields([row], classify=True).form == "text-label"
    assert find_fields([row], classify=False).form == "prompt-completion"
    assert find_fields([{"text": "x", "label": 1}], classify=False).form == "text"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"no text field; found: body, rating\. Name one with --text-field"),
        ({"text": "boddy"}, r"no field 'boddy' \(--text-field\); they have: body, rating\. Did you mean 'body'\?"),
        ({"text": "body", "label": "ratng"}, r"no field 'ratng' \(--label-field\).*Did you mean 'rating'\?"),
        ({"text": "body", "classify": True}, r"no label field; found: body, rating\. Name one with --label-field"),
    ],
)
def test_missing_fields_are_answered_with_those_found(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_fields([{"body": "x", "rating": 3}], **options)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 2, 1, 2], ["1", "2", "10"]),
        (["10", "2", "-1"], ["-1", "2", "10"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        ([True, False], ["False", "True"]),
        (["1", "01", "2"], ["01", "1", "2"]),
        (["²", "1"], ["1", "²"]),
    ],
)
def test_classes_are_sorted_as_numbers_where_all_are(values: list[Any], names: list[str]) -> None:
    assert label_names([{"label": value} for value in values], "label") == names
    assert label_names([{"label": value} for value in reversed(values)], "label") == names


@pytest.mark.parametrize("nothing", [{"label": None}, {"label": ""}, {}])
def test_a_row_without_a_label_is_named_by_its_number(nothing: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"row 2 has no label in field 'label'"):
        label_names([{"label": 0}, nothing, {"label": 1}], "label")


def test_zero_is_a_label() -> None:
    assert label_names([{"label": 0}, {"label": 1}], "label") == ["0", "1"]


def test_one_class_is_too_few() -> None:
    with pytest.raises(DataError, match=r"at least two classes, but field 'label' holds only 'a'"):
        label_names([{"label": "a"}, {"label": "a"}], "label")
