"""What a row lets the model read, and what it is to answer."""

from typing import Any

from attrs import frozen
from transformers import PreTrainedTokenizerBase

from layerlens_core.data.fields import Fields
from layerlens_core.data.labels import described
from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, first_line

#: Who speaks in ShareGPT's conversations, by the names that are in use.
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant", "system": "system", "tool": "tool",
    "function": "tool", "observation": "tool",
}  # fmt: skip


@frozen
class Parts:
    """A prompt and its completion.

    prompt: without loss.
    completion: with loss.
    templated: whether a chat template has put in the special tokens.
    """

    prompt: str
    completion: str
    templated: bool


def parts_of(row: Row, fields: Fields, tokenizer: PreTrainedTokenizerBase) -> Parts:
    """The parts of a row of prompt and completion, or of messages.

    row: to read.
    fields: which of its fields mean what.
    tokenizer: whose chat template renders messages.

    Raises `DataError` where a field holds something else, or where the template does not take the messages.
    """
    if fields.form == "messages":
        messages = _messages(row, fields.messages)
        return _templated(messages, 1, tokenizer)
    if isinstance(row.get(fields.prompt), list):
        asked = _messages(row, fields.prompt, answered=False)
        answer = _messages(row, fields.completion)
        return _templated([*asked, *answer], len(answer), tokenizer)
    prompt = text_in(row, fields.prompt)
    if fields.context and isinstance(context := row.get(fields.context), str) and context.strip():
        prompt = f"{prompt}\n\n{context}"
    return Parts(prompt, text_in(row, fields.completion), templated=False)


def _templated(messages: list[dict[str, Any]], answers: int, tokenizer: PreTrainedTokenizerBase) -> Parts:
    """Messages as the tokenizer's chat template renders them, with the last ones as the completion."""
    check_template(tokenizer)
    try:
        prompt = str(tokenizer.apply_chat_template(messages[:-answers], tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # templates raise whatever they like, for roles that they do not know or expect
        raise DataError(
            f"the tokenizer's chat template does not take the messages: {type(error).__name__}: {first_line(error)}"
        ) from error
    if whole.startswith(prompt):
        return Parts(prompt, whole[len(prompt) :], templated=True)
    # The rendered answer does not begin as the template's prompt ends; then the bare answer and its end must do.
    bare = "".join(message["content"] for message in messages[-answers:])
    return Parts(prompt, bare + (tokenizer.eos_token or ""), templated=True)


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `DataError` where a tokenizer cannot render messages."""
    if tokenizer.chat_template is None:
        raise DataError("the tokenizer has no chat template for messages; use prompt and completion instead")


def text_in(row: Row, field: str) -> str:
    """A field's text. Raises `DataError` where it holds something else."""
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} must hold text, but holds {described(value)}")
    return value


def _messages(row: Row, field: str, *, answered: bool = True) -> list[dict[str, Any]]:
    """A field's messages, with roles and contents; ShareGPT's have ``from`` and ``value`` in their place.

    answered: whether the last one has to be the assistant's.

    Raises `DataError` where it holds something else.
    """
    given = row.get(field)
    messages = [_message(each) for each in given] if isinstance(given, list) else []
    last = messages[-1] if messages else None
    if (
        last is None
        or not all(messages)
        or (answered and (last.get("role") != "assistant" or not isinstance(last.get("content"), str)))
    ):
        needed = ", the assistant's text last" if answered else ""
        raise DataError(
            f"field {field!r} must hold a list of messages with role and content{needed}, but holds {described(given)}"
        )
    return messages


def _message(given: object) -> dict[str, Any]:
    """A message with role and content; empty where it is none."""
    if not isinstance(given, dict):
        return {}
    if "role" in given or "from" not in given:
        return given
    others = {name: value for name, value in given.items() if name not in ("from", "value")}
    who = given["from"]
    return {"role": _ROLES.get(who, who) if isinstance(who, str) else who, "content": given.get("value"), **others}
