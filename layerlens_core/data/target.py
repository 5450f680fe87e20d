"""What a classifier's head is to answer: one class, several, or a number. Never imports torch."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

from attrs import frozen

from layerlens_core.data.labels import Labels, is_mark, means_none, plain_label
from layerlens_core.errors import DataError, brief, shown

#: As transformers names them in ``config.problem_type``.
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
#: How a label says which class: by name, by the class's place, or by a 0 or 1 for each class.
Reading = Literal["names", "places", "flags"]


@frozen(kw_only=True)
class KnownHead:
    """What a checkpoint says of its head.

    names: of its outputs, in order.
    problem: what it says that it answers.
    trained: whether it has such a head, so that its names mean something.
    """

    names: tuple[str, ...] = ()
    problem: str | None = None
    trained: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it answers one number, as one output does unless something else is said."""
        return self.problem == "regression" or (len(self.names) == 1 and self.problem is None)


class UnknownLabelError(DataError):
    """A label that the data do not have by which it was decided what is to be learnt."""


@frozen(kw_only=True)
class Target:
    """What the head is to answer, and how labels say it.

    problem: its kind, which decides the loss.
    names: of the classes, in order; none for a number.
    reading: how labels say which class.
    typed: whether labels have types (`layerlens_core.data.labels`).
    marks: whole numbers that mean that there is no label.
    field: name of the labels' field.
    note: what the data make of the checkpoint's own head, where they do not fit it; else empty.
    """

    problem: Problem
    names: tuple[str, ...] = ()
    reading: Reading = "names"
    typed: bool = True
    marks: tuple[int, ...] = ()
    field: str = "label"
    note: str = ""

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @classmethod
    def of_profile(cls, labels: Sequence[str], settings: Mapping[str, object]) -> "Target | None":
        """What the head of a profiled model answers; None where it has none.

        labels: names of the classes.
        settings: of the profile.
        """
        problem = settings.get("problem_type", "single_label_classification")
        if not labels and problem != "regression":
            return None  # profiled without names: the head stays as it is saved
        return cls(problem=cast("Problem", problem), names=tuple(labels))

    def label(self, value: object) -> int | float | list[float] | None:
        """A row's label as the loss takes it: a class's place, a number, or a 0 or 1 for each class; None for none.

        value: what the field holds.

        Raises `UnknownLabelError` for a label that the data that this was decided on do not have.
        """
        try:
            return self._answer(value)
        except (KeyError, ValueError, TypeError, OverflowError):
            raise UnknownLabelError(f"{brief(value)} is no label of the {self}") from None

    def _answer(self, value: object) -> int | float | list[float] | None:
        plain = plain_label(value, self.typed)
        if plain is None or is_mark(plain, self.marks):
            return None
        if self.problem == "regression":
            return float(plain)
        if self.problem == "single_label_classification":
            return self._place(plain)
        if self.reading == "flags":
            flags = [float(flag) for flag in plain]
            if len(flags) != len(self.names):
                raise ValueError
            return flags
        flags = [0.0] * len(self.names)
        for one in plain if isinstance(plain, list) else [plain]:
            flags[self._place(one)] = 1.0
        return flags

    def _place(self, value: Any) -> int:
        if self.reading == "places":
            place = int(float(value)) if isinstance(value, str) else int(value)
            if not 0 <= place < len(self.names):
                raise KeyError(value)
            return place
        if isinstance(value, float) or (isinstance(value, str) and not self.typed and value not in self._places):
            value = int(float(value))  # written as 1.0 or -0, and known as 1 or 0
        return self._places[str(value)]

    def __str__(self) -> str:
        if self.problem == "regression":
            return f"regression on field {self.field!r}"
        several = ", several a row," if self.problem == "multi_label_classification" else ""
        return f"{len(self.names)} classes{several} of field {self.field!r}"


def decide(labels: Labels, head: KnownHead) -> Target:
    """What is to be learnt from these labels by a model with this head.

    labels: of all rows.
    head: of the checkpoint.

    Fractions, and any numbers for a head of one output, are regression; lists are several classes a row; whole numbers,
    texts and truth values are classes. Classes that a trained head knows, by name or by place, keep their places.

    Raises `DataError` where there is no label, or where there is nothing to tell apart.
    """
    found = labels.settled()
    common: dict[str, Any] = {"typed": labels.typed, "field": labels.name}
    marks = tuple(means_none(found))
    if found.kind is None or (marks and found.wholes <= set(marks)):
        marked = f" ({', '.join(map(str, sorted(found.wholes)))} marks rows without one)" if found.wholes else ""
        raise DataError(
            f"no row has a label in field {labels.name!r}{marked}; name another one with --label-field, or a --task "
            "that needs none"
        )
    if found.kind == "list":
        return _several(found, head, common)
    if found.kind in ("whole number", "number") and _is_regression(found, head):
        if found.least >= found.most:
            raise DataError(f"regression needs different numbers, but field {labels.name!r} holds only {found.most:g}")
        return Target(problem="regression", note=_other(head, 1), **common)
    several = head.problem == "multi_label_classification" and head.trained
    problem: Problem = "multi_label_classification" if several else "single_label_classification"
    whole = found.wholes - set(marks) if found.kind in ("whole number", "number") else None
    names, reading, note = _classes(found.names if whole is None else {str(n) for n in whole}, whole, head)
    if len(names) < 2:
        beside = f" beside {', '.join(map(str, sorted(found.wholes & set(marks))))}, which marks rows without a label"
        raise DataError(
            f"classification needs at least two classes, but field {labels.name!r} holds only '{shown(names[0])}'"
            + (beside if found.wholes & set(marks) else "")
        )
    return Target(problem=problem, names=names, reading=reading, marks=marks, note=note, **common)


def _is_regression(labels: Labels, head: KnownHead) -> bool:
    if head.is_number or labels.fractions:
        return True
    # Whole numbers written as 1.0 are what tables make of classes where some are missing.
    classes = head.problem == "single_label_classification" or (head.trained and len(head.names) > 1)
    return labels.kind == "number" and not classes


def _classes(found: set[str], whole: set[int] | None, head: KnownHead) -> tuple[tuple[str, ...], Reading, str]:
    """The classes in order, how labels say which, and a note where a trained head knows others."""
    if found == set(head.names) or (head.trained and found <= set(head.names)):
        return head.names, "names", ""
    if head.trained and whole is not None and len(head.names) > 1 and all(0 <= n < len(head.names) for n in whole):
        return head.names, "places", ""
    names = sorted_names(found)
    if not head.trained:
        return names, "names", ""
    beyond = [str(n) for n in sorted(whole or ()) if not 0 <= n < len(head.names)]
    odd = next(iter(beyond), next(name for name in names if name not in head.names))
    return names, "names", f"its head of {len(head.names)} outputs does not know '{shown(odd)}', so it gets a new one"


def _several(labels: Labels, head: KnownHead, common: dict[str, Any]) -> Target:
    """Several classes a row: a list of names, of places, or of a 0 or 1 for each class."""
    held = labels.elements
    if held is None or held.kind is None:
        raise DataError(f"the lists in field {labels.name!r} are all empty, so there is no class")
    common["problem"] = "multi_label_classification"
    if held.kind == "text":
        names, _, note = _classes(held.names, None, head)
        return Target(names=names, note=note, **common)
    if held.kind == "number" or held.least < 0:
        raise DataError(
            f"field {labels.name!r} holds lists of numbers from {held.least:g} to {held.most:g}; several classes a row "
            "are whole numbers from 0 on, names, or a 0 or 1 for each class"
        )
    shortest, longest = min(labels.lengths), max(labels.lengths)
    binary = held.kind == "truth value" or held.wholes <= {0, 1}
    if binary and shortest == longest > 1:
        fits = head.trained and len(head.names) == longest
        names = head.names if fits else tuple(map(str, range(longest)))
        return Target(names=names, reading="flags", note=_other(head, longest), **common)
    if held.kind == "truth value" or labels.repeating is not None:
        raise DataError(
            f"row {labels.repeating or labels.lengths[shortest]}: the list in field {labels.name!r} names a class "
            f"twice; if it is a 0 or 1 for each class, all rows need as many, but there are {shortest} and {longest}"
        )
    names, reading, note = _classes({str(n) for n in held.wholes}, held.wholes, head)
    if reading == "names" and not set(names) <= set(head.names):
        # Places of classes: those that no row names are classes as well.
        names, reading = tuple(map(str, range(max(held.wholes) + 1))), "places"
    return Target(names=names, reading=reading, note=note, **common)


def _other(head: KnownHead, outputs: int) -> str:
    """A note where a trained head answers in another number of outputs."""
    fits = not head.trained or len(head.names) == outputs
    return "" if fits else f"its head has {len(head.names)} outputs, so it gets a new one"


def sorted_names(names: set[str]) -> tuple[str, ...]:
    """Classes in order: as numbers where all are whole numbers, else as text."""
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
