"""What is to be learnt follows from all labels and from what the checkpoint says of its head."""

import itertools
import re
from typing import Any

import pytest

from layerlens_core.data.labels import Labels
from layerlens_core.data.target import KnownHead, Target, decide, sorted_names
from layerlens_core.errors import DataError

FRESH = KnownHead(names=("LABEL_0", "LABEL_1"))
MOODS = KnownHead(names=("good", "bad", "neither"), trained=True)
ONE = KnownHead(names=("LABEL_0",), trained=True)
SAID = KnownHead(names=("LABEL_0", "LABEL_1"), problem="single_label_classification")
SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def target(values: list[Any], head: KnownHead = FRESH, *, typed: bool = True) -> Target:
    labels = Labels("label", typed)
    for number, value in enumerate(values, start=1):
        labels.add(number, value)
    return decide(labels, head)


# --------------------------------------------------------------------------------------------- one class


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 2, 1, 2], ["1", "2", "10"]),
        (["10", "2", "-1"], ["-1", "2", "10"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        ([True, False], ["False", "True"]),
        (["1", "01", "2"], ["01", "1", "2"]),
        (["²", "1"], ["1", "²"]),
        ([-2, -1, 0], ["-2", "-1", "0"]),
    ],
)
def test_classes_are_sorted_as_numbers_where_all_are(values: list[Any], names: list[str]) -> None:
    found = target(values)
    assert (found.problem, list(found.names), found.note) == (SINGLE, names, "")
    assert list(target(list(reversed(values))).names) == names
    assert [found.label(value) for value in values] == [names.index(str(value)) for value in values]


@pytest.mark.parametrize("head", [FRESH, KnownHead(names=("0", "1", "2"), trained=True), MOODS, SAID])
@pytest.mark.parametrize("values", list(itertools.combinations(["0", "-0", "1", "1.0", "2.", "1e0", "-1"], 3)))
def test_a_number_is_the_same_class_however_a_table_spells_it(values: list[str], head: KnownHead) -> None:
    try:
        found = target(values, head, typed=False)
    except DataError as error:
        assert re.search("at least two classes|different numbers", str(error))  # noqa: PT017
        return
    known = [(float(value), found.label(value)) for value in values]
    assert all((one == other) == (mine == theirs) for one, mine in known for other, theirs in known)


def test_rows_without_a_label_have_none() -> None:
    found = target([0, 1, -1, None, -100])
    assert found.names == ("0", "1")
    assert [found.label(value) for value in (0, 1, -1, None, -100)] == [0, 1, None, None, None]
    untyped = target(["0", "1", "-1", ""], typed=False)
    assert [untyped.label(value) for value in ("0", "1", "-1", "")] == [0, 1, None, None]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", "a"], "at least two classes, but field 'label' holds only 'a'$"),
        (["a\n" + "b" * 5000] * 2, r"holds only 'a\\nb{38}'$"),
        ([1, -1, 1], "holds only '1' beside -1, which marks rows without a label"),
        ([-1, -1], r"no row has a label in field 'label' \(-1 marks rows without one\); name another one with"),
        ([None, ""], r"no row has a label in field 'label'; name another one with --label-field, or a --task"),
        ([0.5, 0.5], "regression needs different numbers, but field 'label' holds only 0.5"),
        ([[], []], "lists in field 'label' are all empty"),
    ],
)
def test_what_leaves_nothing_to_learn_is_refused(values: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        target(values)


# ---------------------------------------------------------------------------- what the checkpoint knows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["bad", "good", "neither"], [1, 0, 2]),
        (["bad", "good"], [1, 0]),  # fewer than it knows
        ([2, 0, 2], [2, 0, 2]),
        ([2.0, 0.0], [2, 0]),  # as tables write whole numbers where some are missing
    ],
)
def test_classes_that_a_head_knows_keep_their_places(values: list[Any], expected: list[int]) -> None:
    found = target(values, MOODS)
    assert (found.names, found.note) == (MOODS.names, "")
    assert [found.label(value) for value in values] == expected
    untyped = target([str(value) for value in values], MOODS, typed=False)
    assert [untyped.label(str(value)) for value in values] == expected


@pytest.mark.parametrize(
    ("values", "odd"), [(["bad", "fine"], "fine"), ([0, 1, 7], "7"), ([0, 3], "3"), ([True, False], "False")]
)
def test_classes_that_a_head_does_not_know_are_said(values: list[Any], odd: str) -> None:
    found = target(values, MOODS)
    assert list(found.names) == [str(value) for value in sorted(values)]
    assert found.note == f"its head of 3 outputs does not know {odd!r}, so it gets a new one"


def test_names_come_before_places() -> None:
    stars = KnownHead(names=("1", "2", "3", "4", "5"), trained=True)
    assert [target([1, 5, 3], stars).label(value) for value in (1, 5, 3)] == [0, 4, 2]


def test_the_names_of_a_head_that_was_never_trained_say_nothing() -> None:
    assert target([0, 1], FRESH).names == ("0", "1")
    named = KnownHead(names=("good", "bad"))
    assert target(["bad", "good"], named).names == ("good", "bad")  # unless they are the same
    assert target(["bad", "bold"], named).names == ("bad", "bold")


# --------------------------------------------------------------------------------------------- regression


@pytest.mark.parametrize(
    ("values", "head"),
    [
        ([0.5, 4.8, 3], FRESH),
        ([1.0, 2.0, 5.0], FRESH),  # as transformers' own examples decide by the type
        ([1, 2, 5], ONE),
        ([1, 2, 5], KnownHead(names=("a", "b"), problem="regression")),
        ([0.5, 1.0], MOODS),
    ],
)
def test_numbers_are_regression(values: list[Any], head: KnownHead) -> None:
    for found, given in (
        (target(values, head), values),
        (target([str(value) for value in values], head, typed=False), [str(value) for value in values]),
    ):
        assert (found.problem, found.names) == ("regression", ())
        assert [found.label(value) for value in given] == [float(value) for value in values]
    assert str(found) == "regression on field 'label'"
    assert found.note == ("its head has 3 outputs, so it gets a new one" if head is MOODS else "")


def test_whole_numbers_written_with_a_point_are_classes_for_a_head_that_says_so() -> None:
    head = KnownHead(names=("LABEL_0", "LABEL_1"), problem=SINGLE)
    found = target([1.0, 0.0, 2.0], head)
    assert (found.problem, found.names, found.label(2.0)) == (SINGLE, ("0", "1", "2"), 2)


def test_below_zero_a_number_is_a_number() -> None:
    found = target([-1.0, 0.25, None], FRESH)
    assert [found.label(value) for value in (-1.0, 0.25, None)] == [-1.0, 0.25, None]


def test_names_for_a_head_of_one_number_are_classes_with_a_note() -> None:
    found = target(["good", "bad"], ONE)
    assert (found.problem, found.names) == (SINGLE, ("bad", "good"))
    assert "its head of 1 outputs does not know 'bad'" in found.note


# ---------------------------------------------------------------------------------------- several classes


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([[0, 1, 0], [1, 1, 0]], ["0", "1", "2"], [[0, 1, 0], [1, 1, 0]]),
        ([[True, False], [False, False]], ["0", "1"], [[1, 0], [0, 0]]),
        ([["a", "c"], [], ["b", "a"]], ["a", "b", "c"], [[1, 0, 1], [0, 0, 0], [1, 1, 0]]),
        ([[3], [0, 1], []], ["0", "1", "2", "3"], [[0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]),
        ([[1], [0]], ["0", "1"], [[0, 1], [1, 0]]),
    ],
)
def test_lists_are_several_classes_a_row(values: list[Any], names: list[str], expected: list[list[int]]) -> None:
    found = target(values)
    assert (found.problem, list(found.names)) == (MULTI, names)
    assert [found.label(value) for value in values] == expected
    assert "classes, several a row, of field" in str(found)


def test_several_classes_that_a_head_knows_keep_their_places() -> None:
    assert target([["bad"], ["good", "bad"]], MOODS).label(["bad"]) == [0.0, 1.0, 0.0]
    assert target([[2], [0, 2]], MOODS).label([2]) == [0.0, 0.0, 1.0]
    assert target([[0, 1, 1], [0, 0, 0]], MOODS).names == MOODS.names
    assert "its head has 3 outputs, so it gets a new one" in target([[0, 1], [0, 0]], MOODS).note


def test_a_class_a_row_for_a_head_that_answers_several() -> None:
    head = KnownHead(names=("a", "b"), problem=MULTI, trained=True)
    found = target(["b", "a"], head)
    assert (found.problem, found.label("b")) == (MULTI, [0.0, 1.0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [[0, 1, 0], [1, 0]],
            r"row 1: .* names a class twice; if it is a 0 or 1 for each class, all rows need as many",
        ),
        ([[True], [True, False]], r"row 1: .* names a class twice"),
        ([[0.5, 1.0], [0.1, 0.2]], r"lists of numbers from 0.1 to 1; several classes a row are whole numbers"),
        ([[-1, 1], [0, 1]], r"lists of numbers from -1 to 1"),
    ],
)
def test_lists_that_name_no_classes_are_refused(values: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        target(values)


# --------------------------------------------------------------------------------------------- a profile's


def test_a_profile_tells_what_its_head_answers() -> None:
    assert Target.of_profile((), {}) is None
    assert Target.of_profile(("a", "b"), {}) == Target(problem=SINGLE, names=("a", "b"))
    assert Target.of_profile((), {"problem_type": "regression"}) == Target(problem="regression")


def test_names_are_sorted_once() -> None:
    assert sorted_names({"10", "9"}) == ("9", "10")
