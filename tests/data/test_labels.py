"""Labels of one kind, whatever is among them; what marks that there is none; what no label can be."""

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from layerlens_core.data.labels import MARKS, Labels, means_none, plain_label
from layerlens_core.errors import DataError


def gathered(values: list[Any], *, typed: bool = True) -> Labels:
    labels = Labels("label", typed)
    for number, value in enumerate(values, start=1):
        labels.add(number, value)
    return labels


@pytest.mark.parametrize("nothing", [None, "", "  ", math.nan])
def test_what_holds_nothing_is_no_label(nothing: object) -> None:
    assert plain_label(nothing) is None
    assert gathered([nothing]).kind is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], "whole number"),
        ([1, 2.5], "number"),
        ([2.0, 1], "number"),
        ([Decimal("1.5"), 1], "number"),
        (["1", "2"], "text"),
        ([True, False], "truth value"),
        ([[0, 1], []], "list"),
    ],
)
def test_labels_are_of_one_kind(values: list[Any], kind: str) -> None:
    assert gathered(values).kind == kind
    assert gathered(values).settled().kind == kind


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, "a"], r"row 3: field 'label' holds str a, but int 1 in row 1; labels must be of one kind"),
        ([True, 1], r"row 2: .* holds int 1, but bool True in row 1"),
        ([1, True], r"row 2: .* holds bool True, but int 1 in row 1"),
        (["a", ["a"]], r"row 2: .* holds list \['a'\], but str a in row 1"),
        ([math.inf], r"row 1: field 'label' holds float inf, which is no finite number of 32 bits"),
        ([1e39], r"holds float 1e\+39, which is no finite"),
        ([10**400], r"holds int beyond all labels, which is no finite"),
        ([10**9999], r"holds int beyond all labels, which is no finite"),
        ([1, "a\x1b[31m\nb"], r"row 2: field 'label' holds str a\\x1b\[31m\\nb, but int 1"),
        ([{"a": 1}], r"holds dict \{'a': 1\}, which is no label: a class, a number, or a list of classes"),
        ([date(2026, 1, 1)], r"holds date 2026-01-01, which is no label"),
        ([b"x"], r"holds bytes b'x', which is no label"),
        ([[0], [None]], r"row 2: the list in field 'label' holds nothing, which is no class"),
        ([[[1]]], r"row 1: the list in field 'label' holds list \[1\], which is no class"),
        ([["a", 1]], r"row 1: field 'label' holds int 1, but str a in row 1"),
    ],
)
def test_what_does_not_belong_is_named_by_its_row(values: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        gathered(values)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["0", "1", ""], "whole number"),
        (["0.5", "1", "nan"], "number"),
        (["1e3", "-2"], "number"),
        (["1", "01"], "number"),
        (["1", "b"], "text"),
        (["0.5", "b"], "text"),
        (["[0, 1]", "[1, 0]"], "list"),
        (['["a"]', "[]"], "list"),
        (["True", "False"], "text"),
    ],
)
def test_labels_without_types_are_what_all_of_them_can_be(values: list[Any], kind: str) -> None:
    assert gathered(values, typed=False).settled().kind == kind


def test_a_list_that_is_no_json_says_how_to_write_it() -> None:
    with pytest.raises(DataError, match=r"row 1: .*looks like a list and is no JSON; write lists as \[0, 1\]"):
        gathered(["['a']"], typed=False)


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0, 1, -1], MARKS),
        ([0, -100], MARKS),
        ([-2, -1, 0], ()),  # a scale
        ([0.5, -1], ()),  # a number like others
        (["a", "-1"], ()),
    ],
)
def test_minus_one_marks_rows_without_a_label_where_nothing_else_is_below_zero(
    values: list[Any], marks: tuple[int, ...]
) -> None:
    assert means_none(gathered(values)) == marks
