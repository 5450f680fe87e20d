"""Samples: what the model is profiled on, one by one, whatever batches they came in.

Batches are taken apart into samples without padding, and put together again as micro-batches padded on the right. So
scores cannot depend on how samples were batched or on which side they were padded, and in every model a sample's first
token is at position 0.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerlens_core.errors import DataError

Sample = dict[str, Tensor]
IGNORED = -100

#: Keys with one entry a token of ``input_ids``.
_TOKEN_KEYS = ("input_ids", "attention_mask", "token_type_ids")


def split(batches: Iterable[Any], *, own_label_length: bool = False) -> list[Sample]:
    """Samples without padding from batches, single samples, a DataLoader or a datasets.Dataset.

    batches: mappings of tensors or lists: a batch where ``input_ids`` (or ``pixel_values``) has a batch dimension, else
        a sample.
    own_label_length: labels are a sequence of their own (sequence to sequence), not one for each token of the input.

    Raises `DataError` where an item is neither.
    """
    samples: list[Sample] = []
    for number, item in enumerate(batches):
        if not isinstance(item, Mapping):
            raise DataError(f"batch {number} must be a mapping of tensors, but is a {type(item).__name__}")
        tensors = {
            "labels" if key == "label" else key: _tensor(key, value, number)
            for key, value in item.items()
            if _is_data(value)
        }
        main = "input_ids" if "input_ids" in tensors else "pixel_values"
        if main not in tensors:
            found = ", ".join(sorted(map(str, item))) or "nothing"
            raise DataError(f"batch {number} has neither input_ids nor pixel_values; it has: {found}")
        batched = tensors[main].dim() == (2 if main == "input_ids" else 4)
        rows = range(tensors[main].shape[0]) if batched else [None]
        for row in rows:
            sample = {key: value if row is None else value[row] for key, value in tensors.items()}
            samples.append(_unpadded(sample, number, own_label_length))
    if not samples:
        raise DataError("there is no data: no batch holds a sample")
    return samples


def micro_batches(samples: Sequence[Sample], size: int, pad_token_id: int) -> Iterator[Sample]:
    """Batches of ``size`` consecutive samples, the last one perhaps smaller, padded on the right."""
    for start in range(0, len(samples), size):
        yield collate(samples[start : start + size], pad_token_id)


def collate(samples: Sequence[Sample], pad_token_id: int) -> Sample:
    """One batch of samples, padded on the right."""
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
    batch: Sample = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if key not in fill or values[0].dim() == 0:
            batch[key] = torch.stack(values)
            continue
        longest = max(len(value) for value in values)
        batch[key] = torch.full((len(values), longest), fill[key], dtype=values[0].dtype)
        for row, value in enumerate(values):
            batch[key][row, : len(value)] = value
    return batch


def tokens(sample: Sample) -> int:
    """Tokens of a sample; of pixels there are none to count."""
    ids = sample.get("input_ids")
    return 1 if ids is None else len(ids)


def digest(samples: Iterable[Sample]) -> str:
    """A digest of the samples' contents in order."""
    total = hashlib.sha256()
    for sample in samples:
        for key in sorted(sample):
            value = sample[key].contiguous()
            total.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            total.update(value.numpy().tobytes())
    return total.hexdigest()


def _unpadded(sample: Sample, number: int, own_label_length: bool) -> Sample:
    """The sample's real tokens; positions are left to the model, which counts them from the first token."""
    if "input_ids" not in sample:
        return sample
    length = len(sample["input_ids"])
    real = sample.get("attention_mask", torch.ones(length)).nonzero().flatten()
    if len(real) == 0:
        raise DataError(f"batch {number} holds a sample whose attention mask is zero everywhere")
    first, end = int(real[0]), int(real[-1]) + 1
    if end - first != len(real):
        raise DataError(f"batch {number} holds an attention mask with a gap; give one sequence a sample")
    result = {key: sample[key][first:end] for key in _TOKEN_KEYS if key in sample}
    result["attention_mask"] = torch.ones(end - first, dtype=torch.long)
    for key, value in sample.items():
        if key in _TOKEN_KEYS or key == "position_ids":
            continue
        if key == "labels" and value.dim() == 1:
            if own_label_length:
                labelled = (value != IGNORED).nonzero().flatten()
                value = value[: int(labelled[-1]) + 1] if len(labelled) else value[:0]
            elif len(value) == length:
                value = value[first:end]
        result[key] = value
    return result


def _is_data(value: object) -> bool:
    return (
        value is not None
        and not isinstance(value, str)
        and not (isinstance(value, Sequence) and value and isinstance(value[0], str))
    )


def _tensor(key: str, value: Any, number: int) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"batch {number}: {key} is no tensor: {error}") from None
    return tensor.detach().cpu()
