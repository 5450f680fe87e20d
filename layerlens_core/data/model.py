"""Load a pretrained model and its tokenizer by the Auto class that the data's task needs."""

from collections.abc import Iterator
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
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from layerlens_core.data.fields import Form
from layerlens_core.data.source import check_source
from layerlens_core.data.target import KnownHead, Target
from layerlens_core.errors import DataError, ModelError, first_line
from layerlens_core.values.profile import Task

AUTO_CLASSES: dict[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq-lm": AutoModelForSeq2SeqLM,
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}

#: How the classes are called whose heads answer a task that classifies.
_HEADS: dict[Task, str] = {
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
}

#: Models whose tokenizers take a word for the middle of one unless told otherwise, as transformers' examples have it.
_PREFIXED = ("bloom", "deberta", "gpt2", "roberta")

#: The forms of data that a task can use, and how to say so.
_FORMS: dict[Task, tuple[tuple[Form, ...], str]] = {
    "causal-lm": (("text", "prompt-completion", "messages"), "text, prompt and completion, or messages"),
    "masked-lm": (("text",), "text"),
    "seq2seq-lm": (("prompt-completion", "messages"), "prompt and completion"),
    "sequence-classification": (("text-label",), "text and label"),
    "token-classification": (("words-tags",), "words and one tag for each"),
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
        refuse_code(source, error)
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
    if form == "words-tags" and wanted in (None, "token-classification"):
        return "token-classification"
    if wanted is not None:
        task, who = wanted, f"--task {wanted}"
    elif config.is_encoder_decoder:
        task, who = "seq2seq-lm", f"{config.model_type}, a sequence-to-sequence model,"
    elif is_masked(config):
        task, who = "masked-lm", f"{config.model_type}, a masked language model,"
    else:
        return "causal-lm"
    forms, needed = _FORMS[task]
    if form not in forms:
        label = "" if wanted else ", or text and label to classify"
        raise DataError(f"{who} needs data with {needed}{label}, but these are of the form {form}")
    return task


def known_head(config: Any, task: Task) -> KnownHead:
    """What a checkpoint says of its head for a task that classifies.

    config: of the model.
    task: one that classifies.
    """
    by_place = {int(place): str(name) for place, name in (getattr(config, "id2label", None) or {}).items()}
    names = tuple(by_place.get(place, f"LABEL_{place}") for place in range(max(by_place, default=-1) + 1))
    if len(set(names)) < len(names):
        names = tuple(f"LABEL_{place}" for place in range(len(names)))
    trained = any(str(name).endswith(_HEADS[task]) for name in config.architectures or ())
    return KnownHead(names=names, problem=getattr(config, "problem_type", None), trained=trained)


def load(
    source: str,
    task: Task,
    *,
    config: Any = None,
    target: Target | None = None,
    seed: int = 0,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Loaded:
    """The model with the head that the task needs, and its tokenizer.

    source: a local directory or a hub id.
    task: which head to load.
    config: of the model, where it was read already; it is changed.
    target: what a classifier's head is to answer; None leaves it as it is.
    seed: of weights that the checkpoint lacks.
    dtype: to load the model in; ``auto`` takes the checkpoint's.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `ModelError` where model or tokenizer cannot be loaded.
    """
    # Left unset, transformers asks at a terminal, and a "y" meant for something else runs a stranger's file.
    trust = {"trust_remote_code": trust_remote_code}
    config = read_config(source, **trust) if config is None else config
    options: dict[str, Any] = {"dtype": dtype, **trust}
    if target is not None:
        _set_target(config, target)
        options["ignore_mismatched_sizes"] = True  # a classifier of other classes gets a new head
    drop_odd_padding(config)
    with quiet():
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model, found = AUTO_CLASSES[task].from_pretrained(
                    source, config=config, output_loading_info=True, **options
                )
        except Exception as error:
            refuse_code(source, error)
            raise ModelError(f"the model {source} cannot be loaded for {task}: {first_line(error)}") from error
        tokenizer = _tokenizer(source, config, task, trust)
    _set_padding(model, tokenizer)
    drawn = {*found["missing_keys"], *(mismatched[0] for mismatched in found["mismatched_keys"])}
    return Loaded(model=model, tokenizer=tokenizer, drawn=tuple(sorted(drawn)))


def _tokenizer(source: str, config: Any, task: Task, trust: dict[str, bool]) -> PreTrainedTokenizerBase:
    splits = task == "token-classification" and config.model_type in _PREFIXED
    options = {"add_prefix_space": True} if splits else {}
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **trust, **options)
    except Exception as error:
        refuse_code(source, error)
        raise ModelError(
            f"the model {source} has no tokenizer that can be loaded ({first_line(error).rstrip(': ')}); "
            "save it beside the model with tokenizer.save_pretrained"
        ) from error
    return tokenizer


def _set_target(config: Any, target: Target) -> None:
    names = target.names or ("LABEL_0",)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: place for place, name in enumerate(names)}
    config.problem_type = target.problem


def drop_odd_padding(config: Any) -> None:
    """Forget a padding token that the vocabulary does not have (−1, or one added without resizing the embeddings)."""
    for part in (config, config.get_text_config()):
        pad, size = getattr(part, "pad_token_id", None), getattr(part, "vocab_size", None)
        if isinstance(pad, int) and (pad < 0 or (isinstance(size, int) and pad >= size)):
            part.pad_token_id = None


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the configuration a padding token, where it has none: the tokenizer's, or else its end of text."""
    config = model.config.get_text_config()
    if config.pad_token_id is None:
        size = int(model.get_input_embeddings().weight.shape[0])
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        config.pad_token_id = next((pad for pad in known if isinstance(pad, int) and 0 <= pad < size), None)


def refuse_code(source: str, error: Exception) -> None:
    """Raises `ModelError` in our words where transformers says that the model brings its own code."""
    if "trust_remote_code=True" in str(error):
        raise ModelError(
            f"the model {source} brings Python files of its own, and nothing of a model is run unasked; read them, and "
            "use --trust-remote-code if you trust them"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
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


def is_masked(config: Any) -> bool:
    """Whether a model without an explicit head is a masked language model rather than a causal one."""
    for architecture in config.architectures or ():
        if "CausalLM" in architecture or architecture.endswith("LMHeadModel"):
            return False
        if "MaskedLM" in architecture or "ForPreTraining" in architecture:
            return True
    masked = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return masked and not (causal and getattr(config, "is_decoder", False))
