"""Per-sample losses: each sample's own mean over its labels, so that scores do not depend on the batch."""

from collections.abc import Callable

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, pad
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.profiling.model.decoder_inputs import decoder_inputs
from layerlens_core.profiling.model.forward import forward
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead, at_least_float32
from layerlens_core.profiling.samples.sample import IGNORED, Sample
from layerlens_core.profiling.samples.tasks import CLASSIFICATION, problem_of
from layerlens_core.values.profile import Task


@frozen
class Terms:
    """What samples' losses are the means of.

    values: [samples, positions], 0 where nothing is labelled.
    labelled: where something is [samples, positions].
    """

    values: Tensor
    labelled: Tensor

    @property
    def losses(self) -> Tensor:
        """ℓᵢ [samples]."""
        count = self.labelled.sum(dim=1).clamp(min=1)
        return self.values.sum(dim=1) / count.to(self.values.device)


def per_sample_losses(model: PreTrainedModel, batch: Sample, task: Task, head: VocabularyHead | None = None) -> Tensor:
    """ℓᵢ [samples]: the mean over sample i's labels, at least in float32.

    In nats the cross-entropy, for several classes at once the binary one of each, and for regression the squared error,
    as in transformers. For a causal model label t is predicted from position t − 1, and only where that position holds
    a token of the sample.

    model: with a head for the task.
    batch: on the model's device, padded on the right.
    task: which loss is computed.
    head: computes logits at labelled positions alone; None computes all.

    Raises `ModelError` where the model cannot be run on the batch.
    """
    return loss_terms(model, batch, task, head).losses


def loss_terms(model: PreTrainedModel, batch: Sample, task: Task, head: VocabularyHead | None = None) -> Terms:
    """What the losses are the means of; as `per_sample_losses`.

    model: with a head for the task.
    batch: on the model's device.
    task: which loss is computed.
    head: computes logits at labelled positions alone; None computes all.
    """
    if task in CLASSIFICATION:
        logits = forward(model, inputs_alone(batch))
        if logits.dim() != 2 or len(logits) != len(batch["labels"]):
            raise ModelError(
                f"{type(model).__name__} gives logits of shape {tuple(logits.shape)} for {len(batch['labels'])} samples"
            )
        return _of_classifier(logits, batch["labels"], problem_of(model, batch["labels"]))
    run, targets = _prepared(model, batch, task)
    labelled = targets != IGNORED
    if head is not None:
        positions = labelled.flatten().nonzero().flatten()
        terms = head.terms(run, positions, targets.flatten()[positions])
        return Terms(terms.new_zeros(targets.shape).masked_scatter(labelled.to(terms.device), terms), labelled)
    logits = at_least_float32(run())
    if logits.shape[:-1] != targets.shape:
        raise ModelError(
            f"{type(model).__name__} gives logits of shape {tuple(logits.shape)} for labels of shape "
            f"{tuple(targets.shape)}, so that no label belongs to a position"
        )
    targets = targets.to(logits.device)
    values = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return Terms(values.view_as(targets), labelled)


def vocabulary_head(model: PreTrainedModel, batch: Sample, task: Task) -> VocabularyHead | None:
    """The head that computes logits at labelled positions alone, tried on this batch; None where it needs all."""
    if task in CLASSIFICATION or task == "token-classification":
        return None
    run, targets = _prepared(model, batch, task)
    return VocabularyHead.find(model, run, (targets != IGNORED).flatten().nonzero().flatten())


def _of_classifier(logits: Tensor, labels: Tensor, problem: str) -> Terms:
    """The terms of one answer a sample, from logits [samples, outputs]."""
    logits = at_least_float32(logits)
    labels = labels.to(logits.device)
    if problem == "single_label_classification":
        values = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        return Terms(values[:, None], (labels != IGNORED)[:, None])
    numbers = labels.to(logits.dtype).reshape(logits.shape)
    if problem == "regression":
        values = (logits - numbers).square()
    else:
        values = binary_cross_entropy_with_logits(logits, numbers, reduction="none")
    return Terms(values, torch.ones_like(values, dtype=torch.bool))


def _prepared(model: PreTrainedModel, batch: Sample, task: Task) -> tuple[Callable[[], Tensor], Tensor]:
    """What computes the logits [samples, positions, classes], and the target at each of these positions."""
    inputs, labels = inputs_alone(batch), batch.get("labels")
    if task == "causal-lm":
        tokens = inputs["input_ids"]
        labels = tokens if labels is None else labels
        predicting = inputs["attention_mask"][:, :-1].bool() & inputs["attention_mask"][:, 1:].bool()
        targets = pad(labels[:, 1:].masked_fill(~predicting, IGNORED), (0, 1), value=IGNORED)
        return lambda: forward(model, inputs, cache=False), targets
    assert labels is not None  # count_labels saw to it
    if task == "seq2seq-lm":
        if "decoder_input_ids" not in inputs:
            inputs["decoder_input_ids"] = decoder_inputs(model, inputs, labels)
        return lambda: forward(model, inputs, cache=False), labels
    return lambda: forward(model, inputs), labels


def inputs_alone(batch: Sample) -> Sample:
    """What the model reads of a batch: all but the labels."""
    return {key: value for key, value in batch.items() if key != "labels"}
