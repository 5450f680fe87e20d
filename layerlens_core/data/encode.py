"""Turn rows into samples for a task, with a tokenizer."""

from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from layerlens_core.data.fields import Fields
from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError, first_line
from layerlens_core.profiling.model.samples import IGNORED, Sample
from layerlens_core.values.profile import Task

#: Gives every sample a seed of its own, so that its masked tokens do not depend on which samples come before it.
_SEED_STRIDE = 1_000_003


def choose(rows: int, count: int | None, seed: int) -> list[int]:
    """Indices of rows, drawn without replacement, in the order drawn.

    rows: how many there are.
    count: how many to draw at most; None draws all.
    seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(rows, generator=generator).tolist()
    return order[:count]


def encode(
    rows: Sequence[Row],
    fields: Fields,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    labels: Sequence[str] = (),
    max_length: int = 256,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[Sample]:
    """One sample a row, without padding. Rows without any token are left out.

    rows: to encode.
    fields: which of the rows' fields mean what.
    tokenizer: of the model.
    task: which loss the samples are for.
    labels: class names in the model's order, for classification.
    max_length: tokens of a sample at most.
    seed: of masked tokens.
    numbers: of the rows, as messages name them; by default their places among ``rows``, from 1.

    Raises `DataError` where a row's text is missing or is no text, where no row holds a token, or where the tokenizer
    lacks what the task needs (a mask token, a chat template).
    """
    if fields.form == "messages" and tokenizer.chat_template is None:
        raise DataError("the tokenizer has no chat template for messages; use prompt and completion instead")
    if task == "masked-lm":
        if tokenizer.mask_token_id is None:
            raise DataError("the tokenizer has no mask token, so it does not fit a masked language model")
        # The collator's own function for masking is used, for one sample at a time.
        masker = DataCollatorForLanguageModeling(tokenizer, mlm=True, seed=seed)
    samples = []
    for index, row in enumerate(rows):
        try:
            if fields.form in ("text", "text-label"):
                sample = _text(row, fields.text, tokenizer, max_length)
            else:
                sample = _pair(_parts(row, fields, tokenizer), tokenizer, task, max_length)
        except DataError as error:
            number = index + 1 if numbers is None else numbers[index]
            raise DataError(f"row {number}: {error}") from None
        if any(len(tokens) == 0 for tokens in sample.values()):
            continue
        if fields.form == "text-label":
            sample["labels"] = torch.tensor(labels.index(str(row[fields.label])))
        elif task == "masked-lm":
            masker.generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + index)
            tokens, targets = masker.torch_mask_tokens(sample["input_ids"][None].clone())
            sample |= {"input_ids": tokens[0], "labels": targets[0]}
        elif fields.form == "text":
            sample["labels"] = sample["input_ids"].clone()
        samples.append(sample)
    if not samples:
        raise DataError("no row holds a token: all texts are empty")
    return samples


@frozen
class _Parts:
    """What the model reads, and what it is to answer.

    prompt: without loss.
    completion: with loss.
    templated: whether a chat template has put in the special tokens.
    """

    prompt: str
    completion: str
    templated: bool


def _string(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} must hold text, but holds {_describe(value)}")
    return value


def _describe(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]}"


def _text(row: Row, field: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Sample:
    encoded = tokenizer(_string(row, field), truncation=True, max_length=max_length)
    return {key: torch.tensor(value, dtype=torch.long) for key, value in encoded.items()}


def _pair(parts: _Parts, tokenizer: PreTrainedTokenizerBase, task: Task, max_length: int) -> Sample:
    """A prompt and its completion as one sample, with the loss on the completion alone."""
    special = not parts.templated
    if task == "seq2seq-lm":
        limits = {"truncation": True, "max_length": max_length}
        source = tokenizer(parts.prompt, add_special_tokens=special, **limits)
        target = tokenizer(text_target=parts.completion, **limits)["input_ids"]
        sample = {key: torch.tensor(value, dtype=torch.long) for key, value in source.items()}
        return sample | {"labels": torch.tensor(target, dtype=torch.long)}
    # Not verbose: it would warn of texts that are too long, which are cut below.
    before = tokenizer(parts.prompt, add_special_tokens=special, verbose=False)["input_ids"]
    if special and before and before[-1] == tokenizer.eos_token_id:
        before = before[:-1]
    after = tokenizer(parts.completion, add_special_tokens=False, verbose=False)["input_ids"]
    if special and tokenizer.eos_token_id is not None:
        after = [*after, tokenizer.eos_token_id]
    # A prompt that is too long loses its beginning, so that something of the completion is always left.
    kept = before[max(0, len(before) + min(len(after), max_length // 2) - max_length) :]
    tokens = torch.tensor([*kept, *after][:max_length], dtype=torch.long)
    labels = tokens.clone()
    labels[: len(kept)] = IGNORED
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def _parts(row: Row, fields: Fields, tokenizer: PreTrainedTokenizerBase) -> _Parts:
    if fields.form == "prompt-completion":
        return _Parts(_string(row, fields.prompt), _string(row, fields.completion), templated=False)
    messages = _messages(row, fields.messages)
    try:
        prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # templates raise whatever they like, for roles that they do not know or expect
        raise DataError(
            f"the tokenizer's chat template does not take the messages: {type(error).__name__}: {first_line(error)}"
        ) from error
    if whole.startswith(prompt):
        return _Parts(prompt, whole[len(prompt) :], templated=True)
    # The rendered answer does not begin as the template's prompt ends; then the bare answer and its end must do.
    return _Parts(prompt, messages[-1]["content"] + (tokenizer.eos_token or ""), templated=True)


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
            f"but holds {_describe(messages)}"
        )
    return messages
