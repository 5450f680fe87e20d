"""Load a pretrained model and its tokenizer by the Auto class that the data's task needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
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
from layerlens_core.data.source import check_source
from layerlens_core.errors import DataError, ModelError, first_line
from layerlens_core.values.profile import Task

_AUTO_CLASSES: dict[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
    "sequence-classification": AutoModelForSequenceClassification,
}

#: The forms of data that a task can use, and how to say so.
_FORMS: dict[Task, tuple[tuple[Form, ...], str]] = {
    "causal-lm": (("text", "prompt-completion", "messages"), "text, prompt and completion, or messages"),
    "masked-lm": (("text",), "text"),
    "seq2seq-lm": (("prompt-completion", "messages"), "prompt and completion"),
    "sequence-classification": (("text-label",), "text and label"),
}


@frozen(kw_only=True)
class Loaded:
    """A model and its tokenizer.

    model: with the head that the task needs.
    tokenizer: the model's.
    drawn: names of the weights that the checkpoint lacks and so are random.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    drawn: tuple[str, ...] = ()


def read_config(source: str, *, trust_remote_code: bool = False) -> Any:
    """A model's configuration.

    source: a local directory or a hub id.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `ModelError`, where it needs such files too.
    """
    check_source(source)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except Exception as error:
        _refuse_code(source, error)
        what = (
            f"the model {source}"
            if Path(source).exists()
            else f"there is no directory {source}, and the model of that name"
        )
        raise ModelError(f"{what} cannot be loaded: {first_line(error)}") from error


def choose_task(config: Any, form: Form, wanted: Task | None = None) -> Task:
    """The task that is wanted, or else the one that a model of this kind can do with data of this form.

    config: of the model.
    form: of the data (`layerlens_core.data.fields.Fields`).
    wanted: a task, or None.

    Raises `DataError` where the task cannot use data of this form.
    """
    if form == "text-label" and wanted in (None, "sequence-classification"):
        return "sequence-classification"
    if wanted is not None:
        task, who = wanted, f"--task {wanted}"
    elif config.is_encoder_decoder:
        task, who = "seq2seq-lm", f"{config.model_type}, a sequence-to-sequence model,"
    elif _is_masked(config):
        task, who = "masked-lm", f"{config.model_type}, a masked language model,"
    else:
        return "causal-lm"
    forms, needed = _FORMS[task]
    if form not in forms:
        label = "" if wanted else ", or text and label to classify"
        raise DataError(f"{who} needs data with {needed}{label}, but these are of the form {form}")
    return task


def load(
    source: str,
    task: Task,
    *,
    labels: Sequence[str] = (),
    seed: int = 0,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Loaded:
    """The model with the head that the task needs, and its tokenizer.

    source: a local directory or a hub id.
    task: which head to load.
    labels: class names of a classifier.
    seed: of weights that the checkpoint lacks.
    dtype: to load the model in; ``auto`` takes the checkpoint's.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `ModelError` where model or tokenizer cannot be loaded.
    """
    # Left unset, transformers asks at a terminal, and a "y" meant for something else runs a stranger's file.
    trust = {"trust_remote_code": trust_remote_code}
    options: dict[str, Any] = {"dtype": dtype, **trust}
    if labels:
        options |= {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: i for i, name in enumerate(labels)},
            "ignore_mismatched_sizes": True,  # a classifier of other classes gets a new head
        }
    with _quiet():
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model, found = _AUTO_CLASSES[task].from_pretrained(source, output_loading_info=True, **options)
        except Exception as error:
            _refuse_code(source, error)
            raise ModelError(f"the model {source} cannot be loaded for {task}: {first_line(error)}") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **trust)
        except Exception as error:
            _refuse_code(source, error)
            raise ModelError(
                f"the model {source} has no tokenizer that can be loaded ({first_line(error).rstrip(': ')}); "
                "save it beside the model with tokenizer.save_pretrained"
            ) from error
    if model.config.get_text_config().pad_token_id is None:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        model.config.get_text_config().pad_token_id = pad
    drawn = {*found["missing_keys"], *(mismatched[0] for mismatched in found["mismatched_keys"])}
    return Loaded(model=model, tokenizer=tokenizer, drawn=tuple(sorted(drawn)))


def _refuse_code(source: str, error: Exception) -> None:
    """Raises `ModelError` in our words where transformers says that the model brings its own code."""
    if "trust_remote_code=True" in str(error):
        raise ModelError(
            f"the model {source} brings Python files of its own, and nothing of a model is run unasked; read them, and "
            "use --trust-remote-code if you trust them"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Around transformers: no progress bars, and no reports, whose content `Loaded` carries."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


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
