"""Samples: what the model is profiled on, one by one, whatever batches they came in.

Batches are taken apart into samples without padding (`layerlens_core.profiling.samples.batches`), and put together
again as micro-batches padded on the right. So scores cannot depend on how samples were batched or on which side they
were padded, and in every model a sample's first token is at position 0.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerlens_core.profiling.samples.columns import ALL_MEDIA, TOKENS

Sample = dict[str, Tensor]
IGNORED = TOKENS["labels"]


def micro_batches(samples: Sequence[Sample], size: int, pad_token_id: int) -> Iterator[Sample]:
    """Batches of up to ``size`` consecutive samples, padded on the right; those that cannot share a batch do not.

    samples: in their order.
    size: samples in a batch at most.
    pad_token_id: what inputs are padded with.
    """
    for _, together in runs(samples, size):
        yield collate(together, pad_token_id)


def runs(samples: Sequence[Sample], most: int, *, equal: bool = False) -> Iterator[tuple[int, Sequence[Sample]]]:
    """Consecutive samples that can share a batch, with the place of the first.

    samples: in their order.
    most: in a batch.
    equal: only samples of one length share a batch, so that nothing is padded.
    """
    key_of = shapes if equal else runs_key
    start = 0
    while start < len(samples):
        key, stop = key_of(samples[start]), start + 1
        while stop < len(samples) and stop - start < most and key_of(samples[stop]) == key:
            stop += 1
        yield start, samples[start:stop]
        start = stop


def runs_key(sample: Sample) -> tuple[Any, ...]:
    """Equal for samples that can share a batch once they are padded: the same columns, and images of one size."""
    return tuple(
        (key, value.dtype, tuple(value.shape[1:] if _is_padded(key, value) or _is_joined(key, sample) else value.shape))
        for key, value in sorted(sample.items())
    )


def shapes(sample: Sample) -> tuple[Any, ...]:
    """Equal for samples that can share a batch without being padded."""
    return tuple((key, value.dtype, tuple(value.shape)) for key, value in sorted(sample.items()))


def extremes(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    """A sample as long as the longest in every column, and one as short as the shortest, made of two of the samples.

    samples: that can share a batch. Where each has images of its own beside text, whose places must not be cut, the
        longest and the shortest themselves.
    """
    longest, shortest = max(samples, key=tokens), min(samples, key=tokens)
    if any(_is_joined(key, longest) for key in longest):
        return longest, shortest
    padded = [key for key, value in longest.items() if _is_padded(key, value)]
    most = {key: max(len(sample[key]) for sample in samples) for key in padded}
    least = {key: max(min(len(sample[key]) for sample in samples), 1) for key in padded}
    return _resized(longest, most), _resized(shortest, least)


def cut_to(long: Sample, short: Sample) -> Sample | None:
    """A sample cut to the lengths of a shorter one; None where the places of its images must not be cut."""
    if any(_is_joined(key, long) for key in long):
        return None
    return _resized(long, {key: len(short[key]) for key, value in long.items() if _is_padded(key, value)})


def _resized(sample: Sample, lengths: Mapping[str, int]) -> Sample:
    """A sample with columns cut, or repeated from their beginning, to these lengths."""
    result = dict(sample)
    for key, length in lengths.items():
        value = sample[key]
        result[key] = torch.cat([value] * -(-length // max(len(value), 1)))[:length]
    return result


def collate(samples: Sequence[Sample], pad_token_id: int, multiple: int = 1) -> Sample:
    """One batch of samples, padded on the right; their images, of which each may have several, one after the other.

    samples: that can share a batch.
    pad_token_id: with which inputs are padded.
    multiple: of which the padded lengths are.
    """
    batch: Sample = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if _is_joined(key, samples[0]):
            batch[key] = torch.cat(values)
        elif not _is_padded(key, values[0]):
            batch[key] = torch.stack(values)
        else:
            fill = pad_token_id if key.endswith("input_ids") else TOKENS[key]
            longest = -(-max(len(value) for value in values) // multiple) * multiple
            batch[key] = torch.full((len(values), longest, *values[0].shape[1:]), fill, dtype=values[0].dtype)
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
            total.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else value.numpy().tobytes())
    return total.hexdigest()


def _is_padded(key: str, value: Tensor) -> bool:
    """Whether a column has an entry a token; labels that are numbers have one a class."""
    return key in TOKENS and value.dim() > 0 and not value.is_floating_point()


def _is_joined(key: str, sample: Sample) -> bool:
    """Whether a column belongs to images or sounds beside text, of which a sample may have several."""
    return key in ALL_MEDIA and "input_ids" in sample
