"""What the rows' labels are, gathered over all rows before any is used. Never imports torch."""

import math
import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any, Literal

from attrs import define, field

from layerlens_core.errors import DataError, shown
from layerlens_core.files.json_text import parse

#: What a label is. Of values without types (CSV), text may turn out to be numbers when all of it is known.
Kind = Literal["truth value", "whole number", "number", "text", "list"]

#: Whole numbers by which datasets mark rows without a label: that of GLUE, and the index that losses ignore.
MARKS = (-1, -100)
#: The largest number that float32 holds.
LARGEST = 3.4e38

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@define
class Labels:
    """The labels of a field, one added after the other.

    name: of the field.
    typed: whether values have types; without, they are told apart by how they are written.
    kind: of the labels; None before the first one.
    names: the texts; without types, of numbers too.
    wholes: the whole numbers.
    fractions: whether some number is none.
    negative: whether some number is below 0 and no mark.
    least: of the numbers.
    most: likewise.
    elements: of lists: what they hold.
    lengths: of lists, each with the first row that has it.
    repeating: the first row whose list holds something twice.
    """

    name: str
    typed: bool = True
    kind: Kind | None = field(default=None, init=False)
    names: set[str] = field(factory=set, init=False)
    wholes: set[int] = field(factory=set, init=False)
    fractions: bool = field(default=False, init=False)
    negative: bool = field(default=False, init=False)
    least: float = field(default=math.inf, init=False)
    most: float = field(default=-math.inf, init=False)
    elements: "Labels | None" = field(default=None, init=False)
    lengths: dict[int, int] = field(factory=dict, init=False)
    repeating: int | None = field(default=None, init=False)
    _first: tuple[int, str] = field(default=(0, ""), init=False)

    def add(self, number: int, value: object) -> Any:
        """Take a label into account.

        number: of its row, from 1, as messages name it.
        value: what the field holds.

        Returns the label as a value of its kind, or None where there is none. Raises `DataError` where it can be no
        label, or is of another kind than those before it.
        """
        try:
            plain = plain_label(value, self.typed)
        except DataError as error:
            raise DataError(f"row {number}: field {self.name!r} {error}") from None
        if plain is None:
            return None
        kind = _kind(plain)
        if self.kind is None:
            self.kind, self._first = kind, (number, described(value))
        elif {self.kind, kind} == {"whole number", "number"}:
            self.kind = "number"
        elif self.kind != kind:
            raise DataError(
                f"row {number}: field {self.name!r} holds {described(value)}, but {self._first[1]} in row "
                f"{self._first[0]}; labels must be of one kind"
            )
        if isinstance(plain, list):
            self._add_list(number, plain)
        elif isinstance(plain, (str, bool)):
            self.names.add(str(plain))
        else:
            self._add_number(plain)
        return plain

    def settled(self) -> "Labels":
        """The labels once all are known: texts without types that all are numbers, as numbers."""
        if self.typed or self.kind != "text":
            return self
        for pattern, convert in ((_WHOLE, int), (_NUMBER, float)):
            if all(pattern.fullmatch(name) for name in self.names):
                numbers = Labels(self.name)
                for name in sorted(self.names):
                    numbers.add(self._first[0], convert(name))
                return numbers
        return self

    def _add_number(self, value: float) -> None:
        if isinstance(value, float) and not value.is_integer():
            self.fractions = True
        else:
            self.wholes.add(int(value))
        self.negative = self.negative or (value < 0 and value not in MARKS)
        self.least, self.most = min(self.least, value), max(self.most, value)

    def _add_list(self, number: int, values: list[Any]) -> None:
        self.elements = self.elements or Labels(self.name)
        for value in values:
            if isinstance(value, (list, dict)) or self.elements.add(number, value) is None:
                raise DataError(
                    f"row {number}: the list in field {self.name!r} holds {described(value)}, which is no class"
                )
        self.lengths.setdefault(len(values), number)
        if self.repeating is None and len(set(values)) < len(values):
            self.repeating = number


def plain_label(value: object, typed: bool = True) -> Any:
    """A label as a truth value, an int, a float, a text or a list of them; None where there is none.

    value: what the field holds.
    typed: whether values have types.

    Raises `DataError` where it can be no label.
    """
    if value is None or isinstance(value, (bool, list)):
        return value
    if isinstance(value, str):
        return _from_text(value, typed)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, (int, float)):
        if isinstance(value, float) and math.isnan(value):
            return None
        if abs(value) > LARGEST:
            raise DataError(f"holds {described(value)}, which is no finite number of 32 bits")
        return value
    raise DataError(f"holds {described(value)}, which is no label: a class, a number, or a list of classes")


def _from_text(value: str, typed: bool) -> Any:
    if not value.strip() or (not typed and value.strip().lower() == "nan"):
        return None
    if not typed and value.startswith("[") and value.endswith("]"):
        try:
            return parse(value)
        except ValueError:
            raise DataError(
                f'holds {value[:40]!r}, which looks like a list and is no JSON; write lists as [0, 1] or ["a", "b"]'
            ) from None
    return value


def means_none(labels: Labels) -> Collection[int]:
    """The whole numbers that mark rows without a label: none where other numbers are below 0 too, so that −1 is one.

    labels: all of them.
    """
    return MARKS if labels.kind == "whole number" and not labels.negative else ()


def is_mark(plain: object, marks: Collection[int]) -> bool:
    """Whether a label is one of the numbers that mark rows without any.

    plain: as `plain_label` gives it; a list of labels is none.
    marks: see `means_none`.
    """
    return not isinstance(plain, list) and str(plain) in map(str, marks)


def _kind(value: object) -> Kind:
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, int):
        return "whole number"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "list"


def described(value: object) -> str:
    """A value for a message: its type and how it begins."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return "int beyond all labels"
    return "nothing" if value is None else f"{type(value).__name__} {shown(str(value))}"
