"""What a row lets the model read, and what it is to answer."""

from typing import Any

from attrs import frozen
from transformers import PreTrainedTokenizerBase

from layerlens_core.data.fields import Fields
from layerlens_core.data.labels import described
from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, first_line


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
    if fields.form == "prompt-completion":
        return Parts(text_in(row, fields.prompt), text_in(row, fields.completion), templated=False)
    messages = _messages(row, fields.messages)
    try:
        prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # templates raise whatever they like, for roles that they do not know or expect
        raise DataError(
            f"the tokenizer's chat template does not take the messages: {type(error).__name__}: {first_line(error)}"
        ) from error
    if whole.startswith(prompt):
        return Parts(prompt, whole[len(prompt) :], templated=True)
    # The rendered answer does not begin as the template's prompt ends; then the bare answer and its end must do.
    return Parts(prompt, messages[-1]["content"] + (tokenizer.eos_token or ""), templated=True)


def text_in(row: Row, field: str) -> str:
    """A field's text. Raises `DataError` where it holds something else."""
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} must hold text, but holds {described(value)}")
    return value


def _messages(row: Row, field: str) -> list[dict[str, Any]]:
    messages = row.get(field)
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, dict) for message in messages)
        or messages[-1].get("role") != "assistant"
        or not isinstance(messages[-1].get("content"), str)
    ):
        raise DataError(
            f"field {field!r} must hold a list of messages with role and content, the assistant's text last, "
            f"but holds {described(messages)}"
        )
    return messages
