"""Which fields of the rows mean what, and which tasks they are for. Never imports torch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from attrs import asdict, frozen

from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, nearest, shown
from layerlens_core.values.profile import Task

Form = Literal["text", "prompt-completion", "messages", "text-label", "words-tags"]

#: Prompts and completions by convention, those of more use first; an Alpaca row's ``input`` belongs to its instruction.
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)
_CONTEXT: Mapping[str, str] = {"instruction": "input"}
_MESSAGES = ("messages", "conversations", "conversation", "chat")
_TEXT = ("text", "sentence", "content", "utterance")
_LABEL = ("label", "labels", "intent", "class", "target")
_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels", "ner", "pos_tags", "label")


@frozen(kw_only=True)
class Fields:
    """The form of the rows, and the names of the fields that carry it.

    text: holds the text, or the list of words.
    label: holds the label, or the list of one tag a word.
    prompt: holds a text, or messages.
    completion: likewise.
    context: holds a text that follows the prompt, where a row has one; empty where no field does.
    messages: holds a conversation.
    """

    form: Form
    text: str = "text"
    label: str = "label"
    prompt: str = "prompt"
    completion: str = "completion"
    context: str = ""
    messages: str = "messages"


@frozen(kw_only=True)
class Named:
    """Fields that somebody named, each by its option.

    text: `Fields.text`, or None; the others likewise.
    """

    text: str | None = None
    label: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None

    def check(self, found: Sequence[str]) -> None:
        """Raises `DataError` for a field that is not there, and for fields of two forms.

        found: that the rows have.
        """
        for name, given in asdict(self).items():
            if given is not None and given not in found:
                raise DataError(
                    f"the data have no field {given!r} (--{name}-field); they have: {_listed(found)}."
                    f"{nearest(given, found)}"
                )
        if (self.prompt is None) != (self.completion is None):
            one, other = ("prompt", "completion") if self.completion is None else ("completion", "prompt")
            raise DataError(f"--{one}-field needs --{other}-field beside it; the data have: {_listed(found)}")
        forms = {"--text-field": self.text, "--prompt-field": self.prompt, "--messages-field": self.messages}
        given = [option for option, name in forms.items() if name is not None]
        if len(given) > 1:
            raise DataError(f"{given[0]} and {given[1]} are of two forms of rows; give one of them")


def find_fields(rows: Sequence[Row], named: Named | None = None, *, task: Task | None = None) -> Fields:
    """Find out what the rows hold, from the first ones.

    rows: at least one; some may lack a field that others have.
    named: fields that must be there.
    task: one that classifies asks for labels, another one ignores them; by default they are used where there is a
        label field.

    Raises `DataError` that lists the fields found and the option that names one.
    """
    named = named or Named()
    first = _first_values(rows)
    found = list(first)
    named.check(found)
    text, label = named.text, named.label
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
    asked = text is None and (not labels or named.prompt or named.messages)
    if asked and (answers := _answers(first, named)) is not None:
        return answers
    text = text or _first(found, _TEXT)
    if text is None:
        raise DataError(
            f"the data have no text field; found: {_listed(found)}. Name one with --text-field, or --prompt-field and "
            "--completion-field, or --messages-field"
        )
    if labels and label is None:
        raise DataError(f"the data have no label field; found: {_listed(found)}. Name one with --label-field")
    if label is not None and task in (None, "sequence-classification"):
        return Fields(form="text-label", text=text, label=label)
    return Fields(form="text", text=text)


def _answers(first: Row, named: Named) -> Fields | None:
    """The fields of rows in which something is answered: a conversation, or a prompt and its completion."""
    if named.prompt and named.completion:
        return Fields(form="prompt-completion", prompt=named.prompt, completion=named.completion)
    if named.messages:
        return Fields(form="messages", messages=named.messages)
    messages = _first(first, _MESSAGES)
    if messages is not None and isinstance(first[messages], list):
        return Fields(form="messages", messages=messages)
    for prompt, completion in _PAIRS:
        if prompt in first and completion in first and isinstance(first[completion], str | list):
            context = _CONTEXT.get(prompt, "")
            return Fields(
                form="prompt-completion",
                prompt=prompt,
                completion=completion,
                context=context if isinstance(first.get(context), str) else "",
            )
    return None


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
