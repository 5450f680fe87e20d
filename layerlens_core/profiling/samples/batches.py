"""Take batches apart into samples, whatever a collator or a tokenizer left in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import DataError
from layerlens_core.profiling.samples.columns import (
    ALL_MEDIA,
    LEFT_BEHIND,
    LOSS_MASKS,
    PACKING,
    SYNONYMS,
    TOKENS,
    accepted,
)
from layerlens_core.profiling.samples.media import media_of_samples, with_leading
from layerlens_core.profiling.samples.packing import documents
from layerlens_core.profiling.samples.sample import IGNORED, Sample
from layerlens_core.profiling.samples.tasks import CLASSIFICATION
from layerlens_core.values.profile import Task

#: Where the documents of a whole batch begin, which is then one row.
_BOUNDS = ("cu_seq_lens_q", "cu_seq_lens_k")


def split(
    batches: Iterable[Any], task: Task, model: PreTrainedModel | None = None, *, most: int | None = None
) -> list[Sample]:
    """Samples without padding from batches, single samples, a DataLoader or a datasets.Dataset.

    batches: mappings of tensors or lists: a batch where ``input_ids`` (or ``pixel_values``) has a batch dimension, else
        a sample.
    task: which loss is computed.
    model: which columns it reads, and where its images stand; None takes every column that is known.
    most: to read; None reads to the end.

    Raises `DataError` that names the batch and the column, where an item is neither, or holds what is not known or what
    the model would not read.
    """
    samples = list(islice(read(batches, task, model), most))
    if not samples:
        raise DataError("there is no data: no batch holds a sample")
    return samples


def read(batches: Iterable[Any], task: Task, model: PreTrainedModel | None = None) -> Iterator[Sample]:
    """As `split`, one after the other."""
    reader = Reader(task, None if model is None else accepted(model), None if model is None else model.config)
    for number, item in enumerate(batches):
        yield from reader.samples(item, f"batch {number}")


@frozen
class Reader:
    """Takes batches apart.

    task: which loss is computed.
    accepted: inputs that the model names; None takes all that are known.
    config: the model's.
    """

    task: Task
    accepted: frozenset[str] | None
    config: Any

    def samples(self, item: object, where: str) -> Iterator[Sample]:
        """The samples of a batch, or the one that the item is.

        where: names the item in messages.
        """
        columns = self._columns(item, where)
        main = "input_ids" if "input_ids" in columns else "pixel_values"
        # Siglip2 reads an image as patches [patches, width], with the shape that they come from.
        ids, dims = columns[main], 1 if main == "input_ids" else 2 if "spatial_shapes" in columns else 3
        if ids.dim() not in (dims, dims + 1):
            raise DataError(
                f"{where}: {main} has shape {tuple(ids.shape)}; a sample has {dims} dimensions, a batch one more"
            )
        media = {key: columns.pop(key) for key in list(columns) if main == "input_ids" and key in ALL_MEDIA}
        bounds = {key: columns.pop(key) for key in _BOUNDS if key in columns}
        if ids.dim() == dims:
            columns = {key: value[None] for key, value in columns.items()}
            media = {key: with_leading(key, value) for key, value in media.items()}
        rows = len(columns[main])
        for key, value in columns.items():
            if value.dim() == 0 or len(value) != rows:
                raise DataError(f"{where}: {key} has shape {tuple(value.shape)}, but {main} has {rows} rows")
        if main == "pixel_values":
            for row in range(rows):
                yield self._labelled({key: value[row] for key, value in columns.items()}, where)
            return
        beside = media_of_samples(media, columns["input_ids"], self.config, where)
        for row in range(rows):
            name = where if rows == 1 else f"{where}, row {row}"
            for part in self._documents({key: value[row] for key, value in columns.items()} | bounds, name):
                yield part | beside[row]

    def _columns(self, item: object, where: str) -> Sample:
        """What is to be read of an item, as tensors."""
        if not isinstance(item, Mapping):
            raise DataError(f"{where} must be a mapping of tensors, but is a {type(item).__name__}")
        named = {str(key): value for key, value in item.items() if _is_data(value)}
        found = {SYNONYMS.get(key, key): (key, value) for key, value in named.items()}
        columns = {key: _tensor(given, value, where) for key, (given, value) in found.items() if key not in LEFT_BEHIND}
        if "input_ids" not in columns and "pixel_values" not in columns:
            names = ", ".join(sorted(map(str, item))) or "nothing"
            raise DataError(f"{where} has neither input_ids nor pixel_values; it has: {names}")
        self._check_decoder(found, where)
        for key in list(columns):
            if not self._is_read(key, columns[key], where):
                del columns[key]
        return columns

    def _is_read(self, key: str, value: Tensor, where: str) -> bool:
        """Whether a column is read, or may be left out. Raises `DataError` where it is neither."""
        if key in ("labels", *LOSS_MASKS, *PACKING):
            if key in LOSS_MASKS and self.task != "causal-lm":
                raise DataError(f"{where} has {key}, which says nothing for {self.task}; give labels")
            return True
        known = key in TOKENS or key in ALL_MEDIA
        if known and (self.accepted is None or key in self.accepted):
            return True
        if known and key == "token_type_ids" and not bool(value.any()):
            return False  # a tokenizer made it for models that read it, and here it tells nothing
        if known and key == "attention_mask":
            return True  # cuts padding off, also where the model has no use for it
        raise DataError(
            f"{where} has a column {key!r}, "
            + ("which this model does not read" if known else "whose meaning is not known")
            + "; remove it, as what a model does with it would go unnoticed"
        )

    def _check_decoder(self, found: Mapping[str, tuple[str, Any]], where: str) -> None:
        """The decoder's mask is made from the labels; one that says something else is refused."""
        if "decoder_attention_mask" not in found or "labels" not in found:
            return
        mask = _tensor("decoder_attention_mask", found["decoder_attention_mask"][1], where)
        labels = _tensor("labels", found["labels"][1], where)
        if mask.shape != labels.shape or bool(((mask == 0) & (labels != IGNORED)).any()):
            raise DataError(f"{where}: decoder_attention_mask hides labels; leave it out, it is made from the labels")

    def _documents(self, sample: Sample, where: str) -> Iterator[Sample]:
        """The row's documents, without padding; positions are left to the model, which counts them from the first."""
        first, end = _real(sample, where)
        packing = {key: sample.pop(key) for key in PACKING if key in sample}
        apart = documents(packing, first, end, where)
        if len(apart) > 1 and self.task in (*CLASSIFICATION, "seq2seq-lm"):
            raise DataError(f"{where} holds {len(apart)} packed documents, but {self.task} needs one a row")
        self._mask_labels(sample, where)
        for start, stop in apart:
            yield self._labelled(self._cut(sample, first + start, first + stop, where), where)

    def _mask_labels(self, sample: Sample, where: str) -> None:
        """What trainers compute the loss from, as labels."""
        for key in LOSS_MASKS:
            if key in sample:
                mask, ids = sample.pop(key), sample["input_ids"]
                if mask.shape != ids.shape:
                    raise DataError(f"{where}: {key} has shape {tuple(mask.shape)}, but input_ids {tuple(ids.shape)}")
                sample["labels"] = sample.get("labels", ids).masked_fill(mask == 0, IGNORED)

    def _cut(self, sample: Sample, first: int, end: int, where: str) -> Sample:
        """The tokens from first to end, of every column that has one entry a token."""
        length = len(sample["input_ids"])
        result: Sample = {}
        for key, value in sample.items():
            own = key == "decoder_input_ids" or (key == "labels" and self.task in (*CLASSIFICATION, "seq2seq-lm"))
            if not own and (value.dim() == 0 or len(value) != length):
                raise DataError(f"{where}: {key} has shape {tuple(value.shape)}, but there are {length} tokens")
            result[key] = value if own else value[first:end]
        result["attention_mask"] = torch.ones(end - first, dtype=torch.long)
        return result

    def _labelled(self, sample: Sample, where: str) -> Sample:
        """The sample with its labels as its task has them."""
        labels = sample.get("labels")
        if labels is None:
            return sample
        if self.task == "seq2seq-lm" and labels.dim() == 1:
            labelled = (labels != IGNORED).nonzero().flatten()
            kept = int(labelled[-1]) + 1 if len(labelled) else 0
            sample["labels"] = labels[:kept]
            if "decoder_input_ids" in sample:
                if len(sample["decoder_input_ids"]) < kept:
                    raise DataError(f"{where}: decoder_input_ids are shorter than the labels")
                sample["decoder_input_ids"] = sample["decoder_input_ids"][:kept]
        elif self.task in CLASSIFICATION:
            if labels.shape == (1,) and not labels.is_floating_point():
                labels = labels[0]
            several = getattr(self.config, "problem_type", None) == "multi_label_classification"
            sample["labels"] = labels.float() if labels.is_floating_point() or several else labels.long()
        else:
            sample["labels"] = labels if labels.is_floating_point() else labels.long()
        return sample


def _real(sample: Sample, where: str) -> tuple[int, int]:
    """Where a row's real tokens begin and end."""
    ids = sample["input_ids"]
    if ids.is_floating_point():
        raise DataError(f"{where}: input_ids must be token ids, but are {ids.dtype}")
    mask = sample.get("attention_mask", torch.ones_like(ids))
    if mask.shape != ids.shape:
        raise DataError(
            f"{where}: attention_mask has shape {tuple(mask.shape)}, but input_ids {tuple(ids.shape)}; "
            "give a mask with one entry a token"
        )
    if bool(((mask != 0) & (mask != 1)).any()):
        raise DataError(
            f"{where}: attention_mask holds other numbers than 0 and 1; tell documents apart by position_ids"
        )
    real = mask.nonzero().flatten()
    if len(real) == 0:
        raise DataError(f"{where} holds a sample whose attention mask is zero everywhere")
    first, end = int(real[0]), int(real[-1]) + 1
    if end - first != len(real):
        raise DataError(f"{where} holds an attention mask with a gap; give one sequence a sample")
    return first, end


def _is_data(value: object) -> bool:
    return (
        value is not None
        and not isinstance(value, str)
        and not (isinstance(value, Sequence) and value and isinstance(value[0], str))
    )


def _tensor(key: str, value: Any, where: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{where}: {key} is no tensor: {error}") from None
    return tensor.detach().cpu()
