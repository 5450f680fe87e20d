"""Per-sample losses: each sample's own mean over its labels, so that scores do not depend on the batch."""

from collections.abc import Callable
from typing import get_args

from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from layerlens_core.errors import DataError, ModelError
from layerlens_core.inspection.inspect import class_name
from layerlens_core.profiling.model.samples import IGNORED, Sample
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead, at_least_float32
from layerlens_core.values.profile import Task


def task_of(model: PreTrainedModel) -> Task:
    """The task that a model's class is made for. Raises `ModelError` where that cannot be profiled."""
    name = class_name(model)
    mappings: dict[Task, tuple[str, ...]] = {
        "sequence-classification": (
            "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
            "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        ),
        "seq2seq-lm": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",),
        "masked-lm": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",),
        "causal-lm": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
    }
    for task, attributes in mappings.items():
        for attribute in attributes:
            values = getattr(modeling_auto, attribute).values()
            if any(name == value or name in value for value in values if isinstance(value, (str, tuple))):
                return task
    raise ModelError(
        f"the task of {name} is not known; it must be a model for one of {', '.join(get_args(Task))}, "
        "loaded by the Auto class of that task"
    )


def count_labels(sample: Sample, task: Task) -> int:
    """How many terms a sample's loss has; samples without any are not counted.

    Raises `DataError` where the task's labels are missing or of the wrong kind.
    """
    labels = sample.get("labels")
    if task == "causal-lm":
        labels = sample["input_ids"] if labels is None else labels
        return int((labels[1:] != IGNORED).sum())
    if labels is None:
        raise DataError(f"the task {task} needs labels, but the samples hold only: {', '.join(sorted(sample))}")
    if labels.is_floating_point():
        raise DataError(f"labels must be class indices or token ids, but are {labels.dtype}")
    if task == "sequence-classification":
        if labels.dim() != 0:
            raise DataError(
                f"sequence classification needs one label a sample, but labels have shape {tuple(labels.shape)}"
            )
        return int(labels != IGNORED)
    if labels.dim() != 1:
        raise DataError(f"the task {task} needs one label a token, but labels have shape {tuple(labels.shape)}")
    return int((labels != IGNORED).sum())


def per_sample_losses(model: PreTrainedModel, batch: Sample, task: Task, head: VocabularyHead | None = None) -> Tensor:
    """ℓᵢ [samples], in nats: the mean cross-entropy over sample i's labels, at least in float32.

    For a causal model label t is predicted from position t − 1, and only where that position holds a token of the
    sample.

    model: with a head for the task.
    batch: on the model's device, padded on the right.
    task: which loss is computed.
    head: computes logits at labelled positions alone; None computes all.
    """
    run, targets = _prepared(model, batch, task)
    labelled = targets != IGNORED
    if head is not None:
        positions = labelled.flatten().nonzero().flatten()
        terms = head.terms(run, positions, targets.flatten()[positions])
        singly = terms.new_zeros(targets.shape).masked_scatter(labelled.to(terms.device), terms)
    else:
        logits = at_least_float32(run())
        singly = cross_entropy(
            logits.flatten(0, 1), targets.to(logits.device).flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
    return singly.sum(dim=1) / labelled.sum(dim=1).clamp(min=1).to(singly.device)


def vocabulary_head(model: PreTrainedModel, batch: Sample, task: Task) -> VocabularyHead | None:
    """The head that computes logits at labelled positions alone, tried on this batch; None where it needs all."""
    if task == "sequence-classification":
        return None
    run, targets = _prepared(model, batch, task)
    return VocabularyHead.find(model, run, (targets != IGNORED).flatten().nonzero().flatten())


def _prepared(model: PreTrainedModel, batch: Sample, task: Task) -> tuple[Callable[[], Tensor], Tensor]:
    """What computes the logits [samples, positions, classes], and the target at each of these positions."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    labels = batch.get("labels")
    if task == "causal-lm":
        tokens = inputs["input_ids"]
        labels = tokens if labels is None else labels
        predicting = inputs["attention_mask"][:, :-1].bool() & inputs["attention_mask"][:, 1:].bool()
        targets = pad(labels[:, 1:].masked_fill(~predicting, IGNORED), (0, 1), value=IGNORED)
        return lambda: _logits(model, inputs, cache=False), targets
    assert labels is not None  # count_labels saw to it
    if task == "seq2seq-lm":
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=labels)
        return lambda: _logits(model, inputs, cache=False), labels
    if task == "sequence-classification":
        return lambda: _logits(model, inputs, cache=True)[:, None], labels[:, None]
    return lambda: _logits(model, inputs, cache=True), labels


def _logits(model: PreTrainedModel, inputs: Sample, *, cache: bool) -> Tensor:
    options = {} if cache or not hasattr(model.config, "use_cache") else {"use_cache": False}
    logits: Tensor = model(**inputs, **options).logits
    return logits


def pad_token_id(model: PreTrainedModel, task: Task, batch: int) -> int:
    """What to pad inputs with. Raises `ModelError` where the model has to know its padding token and does not."""
    pad = model.config.get_text_config().pad_token_id
    # Classifiers on decoders look for the last token that is not padding; without its id they refuse batches.
    if pad is None and task == "sequence-classification" and batch > 1 and hasattr(model, "score"):
        raise ModelError(
            f"{type(model).__name__} has no padding token: set model.config.pad_token_id, or use micro_batch=1"
        )
    return int(pad) if pad is not None else 0
