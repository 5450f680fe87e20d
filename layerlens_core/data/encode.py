"""Turn rows into samples for a task, with a tokenizer."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from layerlens_core.data.fields import Fields
from layerlens_core.data.rows import Row
from layerlens_core.errors import DataError
from layerlens_core.profiling.losses import Task
from layerlens_core.profiling.samples import IGNORED, Sample

#: One seed a sample, so that its masked tokens do not depend on which samples come before it.
_SEED_STRIDE = 1_000_003


def choose(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """At most ``count`` rows drawn without replacement, in the order drawn."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rows), generator=generator).tolist()
    return [rows[i] for i in order[:count]]


def encode(
    rows: Sequence[Row],
    fields: Fields,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    labels: Sequence[str] = (),
    max_length: int = 256,
    seed: int = 0,
) -> list[Sample]:
    """One sample a row, without padding, at most ``max_length`` tokens.

    Raises `DataError` where a row's text is missing or is no text, or where the tokenizer lacks what the
    task needs (a mask token, a chat template).
    """
    if task == "masked-lm":
        if tokenizer.mask_token_id is None:
            raise DataError("the tokenizer has no mask token, so it does not fit a masked language model")
        # A function that the collator has and that does the masking for one sample at a time.
        masker = DataCollatorForLanguageModeling(tokenizer, mlm=True, seed=seed)
    samples = []
    for number, row in enumerate(rows):
        if fields.form == "text-label":
            sample = _text(row, fields.text, tokenizer, max_length)
            sample["labels"] = torch.tensor(labels.index(str(row[fields.label])))
        elif fields.form == "text":
            sample = _text(row, fields.text, tokenizer, max_length)
            if task == "masked-lm":
                masker.generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + number)
                tokens, targets = masker.torch_mask_tokens(sample["input_ids"][None].clone())
                sample |= {"input_ids": tokens[0], "labels": targets[0]}
            elif task == "causal-lm":
                sample["labels"] = sample["input_ids"].clone()
        else:
            prompt, completion = _prompt_and_completion(row, fields, tokenizer)
            sample = _pair(prompt, completion, tokenizer, task, max_length)
        samples.append(sample)
    return samples


def _string(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} must hold text, but holds {type(value).__name__}: {str(value)[:40]!r}")
    return value


def _text(row: Row, field: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Sample:
    encoded = tokenizer(_string(row, field), truncation=True, max_length=max_length)
    return {key: torch.tensor(value) for key, value in encoded.items()}


def _pair(prompt: str, completion: str, tokenizer: PreTrainedTokenizerBase, task: Task, max_length: int) -> Sample:
    """The loss is on the completion alone."""
    if task == "seq2seq-lm":
        sample = {k: torch.tensor(v) for k, v in tokenizer(prompt, truncation=True, max_length=max_length).items()}
        target = tokenizer(text_target=completion, truncation=True, max_length=max_length)
        return sample | {"labels": torch.tensor(target["input_ids"])}
    before = tokenizer(prompt)["input_ids"]
    if before and before[-1] == tokenizer.eos_token_id:
        before = before[:-1]
    after = tokenizer(completion, add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        after = [*after, tokenizer.eos_token_id]
    # A prompt that is too long loses its beginning, so that something of the completion is always left.
    kept = before[max(0, len(before) + min(len(after), max_length // 2) - max_length) :]
    tokens = torch.tensor([*kept, *after][:max_length])
    labels = tokens.clone()
    labels[: len(kept)] = IGNORED
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def _prompt_and_completion(row: Row, fields: Fields, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    if fields.form == "prompt-completion":
        return _string(row, fields.prompt), _string(row, fields.completion)
    messages: Any = row.get(fields.messages)
    if not isinstance(messages, list) or not messages or messages[-1].get("role") != "assistant":
        raise DataError(f"field {fields.messages!r} must hold a list of messages that ends with the assistant's")
    if tokenizer.chat_template is None:
        raise DataError("the tokenizer has no chat template for messages; use prompt and completion instead")
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    return str(prompt), str(messages[-1]["content"])
