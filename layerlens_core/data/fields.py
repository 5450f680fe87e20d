"""Which fields of the rows mean what, and which tasks they are for. Never imports torch."""

import re
from collections.abc import Collection, Sequence
from typing import Literal

from attrs import frozen

from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, nearest

Form = Literal["text", "prompt-completion", "messages", "text-label"]

_TEXT = ("text", "sentence", "content", "utterance")
_LABEL = ("label", "labels", "intent", "class", "target")


@frozen(kw_only=True)
class Fields:
    """The form of the rows, and the names of the fields that carry it."""

    form: Form
    text: str = "text"
    label: str = "label"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"


def find_fields(
    rows: Sequence[Row], *, text: str | None = None, label: str | None = None, classify: bool | None = None
) -> Fields:
    """Find out what the rows hold, from the first row.

    rows: at least one.
    text: name of the text's field; it must be there.
    label: name of the label's field; it must be there.
    classify: True asks for labels, False ignores them; by default they are used where there is a label field.

    Raises `DataError` that lists the fields found and the option that names one.
    """
    found = list(rows[0])
    for given, option in ((text, "--text-field"), (label, "--label-field")):
        if given is not None and given not in found:
            raise DataError(
                f"the data have no field {given!r} ({option}); they have: {', '.join(found)}.{nearest(given, found)}"
            )
    if label is not None and classify is None:
        classify = True
    label = label or _first(found, _LABEL)
    if text is None and "messages" in found and not classify:
        return Fields(form="messages")
    if text is None and {"prompt", "completion"} <= set(found) and not classify:
        return Fields(form="prompt-completion")
    text = text or _first(found, _TEXT)
    if text is None:
        raise DataError(
            f"the data have no text field; found: {', '.join(found)}. Name one with --text-field, or use "
            "text, prompt and completion, or messages"
        )
    if classify and label is None:
        raise DataError(f"the data have no label field; found: {', '.join(found)}. Name one with --label-field")
    if label is not None and classify is not False:
        return Fields(form="text-label", text=text, label=label)
    return Fields(form="text", text=text)


def label_names(rows: Sequence[Row], field: str) -> list[str]:
    """The classes, sorted: as numbers where all are whole numbers, else as text.

    Raises `DataError` where a row has no label or where there is only one class.
    """
    for number, row in enumerate(rows, start=1):
        if row.get(field) in (None, ""):
            raise DataError(f"row {number} has no label in field {field!r}")
    values = {str(row[field]) for row in rows}
    if len(values) < 2:
        raise DataError(f"classification needs at least two classes, but field {field!r} holds only {values.pop()!r}")
    if all(re.fullmatch(r"-?\d+", value) for value in values):
        return sorted(values, key=lambda value: (int(value), value))
    return sorted(values)


def _first(found: Collection[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in found), None)
