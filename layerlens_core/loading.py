"""Load a pretrained model and its tokenizer by the Auto class that the data's task needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from layerlens_core.data.fields import Form
from layerlens_core.errors import DataError, ModelError
from layerlens_core.profiling.losses import Task

_AUTO_CLASSES: dict[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
    "sequence-classification": AutoModelForSequenceClassification,
}


def read_config(source: str) -> Any:
    """A model's configuration, from a local directory or the hub. Raises `ModelError`."""
    path = Path(source)
    if path.is_dir() and not (path / "config.json").exists():
        raise ModelError(f"the model directory {source} has no config.json; is it the output of save_pretrained?")
    if not path.exists() and source.startswith((".", "/", "~")):
        raise ModelError(f"the model directory {source} does not exist")
    try:
        return AutoConfig.from_pretrained(source)
    except Exception as error:
        raise ModelError(f"the model {source} cannot be loaded: {_first_line(error)}") from error


def choose_task(config: Any, form: Form) -> Task:
    """The task that a model can do with data of this form. Raises `DataError` where they do not fit."""
    if form == "text-label":
        return "sequence-classification"
    if config.is_encoder_decoder:
        if form == "text":
            raise DataError(
                f"{config.model_type} maps a sequence to a sequence; its data need prompt and completion, "
                "or text and label"
            )
        return "seq2seq-lm"
    if _is_masked(config):
        if form != "text":
            raise DataError(f"{config.model_type} is a masked language model; its data need text, or text and label")
        return "masked-lm"
    return "causal-lm"


def load(
    source: str, task: Task, *, labels: Sequence[str] = (), seed: int = 0, dtype: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with the head that the task needs, and its tokenizer.

    A head that the checkpoint lacks is drawn from ``seed``. labels: class names of a classifier.
    Raises `ModelError` where either cannot be loaded.
    """
    options: dict[str, Any] = {"dtype": dtype}
    if task == "sequence-classification":
        options |= {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: i for i, name in enumerate(labels)},
        }
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _AUTO_CLASSES[task].from_pretrained(source, **options)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise ModelError(f"the model {source} cannot be loaded for {task}: {_first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
    if model.config.get_text_config().pad_token_id is None:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        model.config.get_text_config().pad_token_id = pad
    return model, tokenizer


def _is_masked(config: Any) -> bool:
    """Whether a model without an explicit head is a masked language model rather than a causal one."""
    for architecture in config.architectures or ():
        if "CausalLM" in architecture or architecture.endswith("LMHeadModel"):
            return False
        if "MaskedLM" in architecture or "ForPreTraining" in architecture:
            return True
    masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return masked and not (causal and getattr(config, "is_decoder", False))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
