"""What a model is trained for: its task, the kind of its problem, and which labels fit."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from layerlens_core.errors import DataError, ModelError
from layerlens_core.inspection.accessors import input_embeddings, output_embeddings, text_config
from layerlens_core.inspection.inspect import class_name
from layerlens_core.profiling.samples.sample import IGNORED, Sample
from layerlens_core.values.profile import Task

#: What a classifier's outputs are compared with: one class, several at once, or numbers.
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]

#: Tasks with one answer a sample.
CLASSIFICATION: tuple[Task, ...] = ("sequence-classification", "image-classification")
#: Tasks whose labels are tokens.
LANGUAGE: tuple[Task, ...] = ("causal-lm", "masked-lm", "seq2seq-lm")

_MAPPINGS: dict[Task, str] = {
    "sequence-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "seq2seq-lm": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}


def task_of(model: PreTrainedModel) -> Task:
    """The task that a model's class is made for. Raises `ModelError` where that cannot be profiled."""
    name = class_name(model)
    task = task_of_class(name)
    if task is not None:
        # Language models that hear are listed among the others, with which they have no decoder in common.
        hears = task == "seq2seq-lm" and not getattr(model.config, "is_encoder_decoder", False)
        return "causal-lm" if hears else task
    raise ModelError(
        f"the task of {name} is not known; it must be a model for one of {', '.join(get_args(Task))}, "
        "loaded by the Auto class of that task"
    )


def task_of_class(name: str) -> Task | None:
    """The task in whose list transformers has a class of this name; None where it is in none."""
    for task, attribute in _MAPPINGS.items():
        values = getattr(modeling_auto, attribute).values()
        if any(name == value or name in value for value in values if isinstance(value, (str, tuple))):
            return task
    return None


def problem_of(model: PreTrainedModel, labels: Tensor) -> Problem:
    """What a classifier's outputs are compared with, decided as transformers does.

    model: whose configuration may say it.
    labels: of one sample or of a batch; floating point for several classes at once.
    """
    known = getattr(model.config, "problem_type", None)
    if known in get_args(Problem):
        return cast("Problem", known)
    if _outputs(model) == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def count_labels(sample: Sample, task: Task) -> int:
    """How many terms a sample's loss has; samples without any are not counted.

    sample: without a batch dimension.
    task: one of `Task`.

    Raises `DataError` where the task's labels are missing or of the wrong kind.
    """
    labels = sample.get("labels")
    if task == "causal-lm":
        labels = sample["input_ids"] if labels is None else labels
        return int((labels[1:] != IGNORED).sum())
    if labels is None:
        raise DataError(f"the task {task} needs labels, but the samples hold only: {', '.join(sorted(sample))}")
    if task in CLASSIFICATION:
        if labels.dim() > 1 or (labels.dim() == 1 and not labels.is_floating_point()):
            raise DataError(
                f"{task.replace('-', ' ')} needs one label a sample, or a floating-point number for each class, "
                f"but labels have shape {tuple(labels.shape)} and are {labels.dtype}"
            )
        return int(labels != IGNORED) if labels.dim() == 0 else len(labels)
    if labels.is_floating_point():
        raise DataError(f"labels must be class indices or token ids, but are {labels.dtype}")
    if labels.dim() != 1:
        raise DataError(f"the task {task} needs one label a token, but labels have shape {tuple(labels.shape)}")
    return int((labels != IGNORED).sum())


def check_samples(model: PreTrainedModel, samples: Sequence[Sample], task: Task) -> None:
    """Raises `DataError` that names the first sample with a token or a label that the model does not have."""
    tokens, outputs = vocabulary(model), _outputs(model) if task not in LANGUAGE else None
    if task in LANGUAGE:
        head = output_embeddings(model)
        known = head.out_features if isinstance(head, nn.Linear) else getattr(text_config(model), "vocab_size", None)
        outputs = known if isinstance(known, int) else None
    for number, sample in enumerate(samples):
        ids = sample.get("input_ids")
        if ids is not None and len(ids) and tokens is not None:
            _check_range(ids, tokens, f"sample {number} holds token {{}}, but the model has {tokens} tokens (from 0)")
        labels = sample.get("labels")
        if labels is None or not labels.numel():
            continue
        if task in CLASSIFICATION and problem_of(model, labels) != "single_label_classification":
            _check_numbers(model, number, labels, outputs)
            continue
        if labels.is_floating_point():
            raise DataError(
                f"sample {number} has the label {labels.tolist()}, but the model tells {outputs} classes apart; "
                "labels are then class indices, or set model.config.problem_type"
            )
        counted = labels[labels != IGNORED]
        if outputs is not None and counted.numel():
            hint = "; -1 often marks rows without a label: leave them out" if int(counted.min()) == -1 else ""
            _check_range(
                counted,
                outputs,
                f"sample {number} has the label {{}}, but the model has {outputs} outputs (from 0){hint}",
            )


def vocabulary(model: PreTrainedModel) -> int | None:
    """How many tokens a model's embeddings have; None where it reads none."""
    embeddings = input_embeddings(model)
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else None


def pad_token_id(model: PreTrainedModel, task: Task, batch: int) -> int:
    """What to pad inputs with: any token that the embeddings have will do, since padding is masked.

    model: to run.
    task: which loss is computed.
    batch: samples in a batch.

    Raises `ModelError` where the model has to know its padding token and does not.
    """
    if batch > 1 and lacks_padding(model, task):
        raise ModelError(
            f"{type(model).__name__} has no padding token: set model.config.pad_token_id, or use micro_batch=1"
        )
    pad = getattr(text_config(model), "pad_token_id", None)
    size = vocabulary(model)
    return pad if isinstance(pad, int) and 0 <= pad < (size or pad + 1) else 0


def lacks_padding(model: PreTrainedModel, task: Task) -> bool:
    """Whether a model refuses batches: classifiers on decoders look for the last token that is not padding."""
    pad = getattr(text_config(model), "pad_token_id", None)
    return pad is None and task == "sequence-classification" and hasattr(model, "score")


def _outputs(model: PreTrainedModel) -> int | None:
    found = getattr(model.config, "num_labels", None)
    return found if isinstance(found, int) else None


def _check_numbers(model: PreTrainedModel, number: int, labels: Tensor, outputs: int | None) -> None:
    """Labels that are numbers, or one for each class."""
    expected = outputs or 1
    if labels.numel() != expected or not bool(torch.isfinite(labels).all()):
        problem = problem_of(model, labels).replace("_", " ")
        raise DataError(
            f"sample {number} has the labels {labels.tolist()}, but {problem} with {expected} outputs needs as many "
            "finite numbers"
        )
    multiple = problem_of(model, labels) == "multi_label_classification"
    if multiple and bool(((labels < 0) | (labels > 1)).any()):
        raise DataError(f"sample {number} has the labels {labels.tolist()}, but each class is labelled from 0 to 1")


def _check_range(values: Tensor, size: int, message: str) -> None:
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= size:
        raise DataError(message.format(least if least < 0 else most))
