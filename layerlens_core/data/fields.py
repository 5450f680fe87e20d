"""Which fields of the rows mean what, and which tasks they are for. Never imports torch."""

from collections.abc import Collection, Sequence
from typing import Literal

from attrs import frozen

from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, nearest, shown
from layerlens_core.values.profile import Task

Form = Literal["text", "prompt-completion", "messages", "text-label", "words-tags"]

_TEXT = ("text", "sentence", "content", "utterance")
_LABEL = ("label", "labels", "intent", "class", "target")
_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels", "ner", "pos_tags", "label")


@frozen(kw_only=True)
class Fields:
    """The form of the rows, and the names of the fields that carry it.

    text: holds the text, or the list of words.
    label: holds the label, or the list of one tag a word.
    """

    form: Form
    text: str = "text"
    label: str = "label"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"


def find_fields(
    rows: Sequence[Row], *, text: str | None = None, label: str | None = None, task: Task | None = None
) -> Fields:
    """Find out what the rows hold, from the first ones.

    rows: at least one; some may lack a field that others have.
    text: name of the text's field; it must be there.
    label: name of the label's field; it must be there.
    task: one that classifies asks for labels, another one ignores them; by default they are used where there is a
        label field.

    Raises `DataError` that lists the fields found and the option that names one.
    """
    first = _first_values(rows)
    found = list(first)
    for given, option in ((text, "--text-field"), (label, "--label-field")):
        if given is not None and given not in found:
            raise DataError(
                f"the data have no field {given!r} ({option}); they have: {_listed(found)}.{nearest(given, found)}"
            )
    if task in (None, "token-classification"):
        words = _words_field(first, text, label)
        tags = label or _first(found, _TAGS)
        if words is not None and tags is not None:
            return Fields(form="words-tags", text=words, label=tags)
        if task is not None:
            raise DataError(
                "token classification needs a list of words and one tag for each, in fields such as tokens and "
                f"ner_tags; found: {_listed(found)}. Name them with --text-field and --label-field"
            )
    labels = task == "sequence-classification" or (task is None and label is not None)
    label = label or _first(found, _LABEL)
    if text is None and "messages" in found and not labels:
        return Fields(form="messages")
    if text is None and {"prompt", "completion"} <= set(found) and not labels:
        return Fields(form="prompt-completion")
    text = text or _first(found, _TEXT)
    if text is None:
        raise DataError(
            f"the data have no text field; found: {_listed(found)}. Name one with --text-field, or use "
            "text, prompt and completion, or messages"
        )
    if labels and label is None:
        raise DataError(f"the data have no label field; found: {_listed(found)}. Name one with --label-field")
    if label is not None and task in (None, "sequence-classification"):
        return Fields(form="text-label", text=text, label=label)
    return Fields(form="text", text=text)


def _first_values(rows: Sequence[Row]) -> Row:
    """Each field's first value that is not null."""
    values: Row = {}
    for row in rows:
        for name, value in row.items():
            if values.get(name) is None:
                values[name] = value
    return values


def _words_field(first: Row, text: str | None, label: str | None) -> str | None:
    """The field of words, where it is plain that words and not texts are meant."""
    name = text or _first(first, _WORDS)
    if name is None or not isinstance(first[name], list):
        return None
    # Words beside a text that is labelled as a whole are something else.
    whole = text is None and label is None and _first(first, _TEXT) and not isinstance(first.get("label", []), list)
    return None if whole else name


def _listed(found: Sequence[str], most: int = 12) -> str:
    return ", ".join(shown(name) for name in found[:most]) + (
        f" and {len(found) - most} more" if len(found) > most else ""
    )


def _first(found: Collection[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in found), None)
