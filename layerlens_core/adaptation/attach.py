"""Attach what a configuration names, for good or for a limited time."""

import gc
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from layerlens_core.adaptation.config import Entry, LayerLensConfig, configure
from layerlens_core.adaptation.model import LayerLensModel  # noqa: F401  makes the type known to PEFT
from layerlens_core.adaptation.snapshot import remember, restored_on_error
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect


def attach(model: PreTrainedModel, config: LayerLensConfig) -> PeftModel:
    """The model with everything that the configuration names, for a model without adapters.

    Raises `ModelError` where PEFT would take other modules for a head than those that are named.
    """
    _check_heads(model, config.modules_to_save or ())
    config.base_model_name_or_path = model.config._name_or_path or None
    with quietly():
        return get_peft_model(model, config)


@contextmanager
def quietly() -> Iterator[None]:
    """Around calls into PEFT: without its warnings, which a user can do nothing about, and without garbage collection.

    Each collection would go through a model that only grows, and take a quarter of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 reads an attribute that transformers 5.23 has renamed and still serves.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            # Of tensors that a file lacks PEFT warns; we raise an error.
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def temporary_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Collection[str] = ()
) -> Iterator[PeftModel]:
    """LoRA, and trainable copies of heads, that are gone afterwards, also after an exception.

    PEFT's own ``unload`` puts the trained copy of a head in place of the original, leaves the weights frozen, and under
    gradient checkpointing leaves hooks on the embeddings. Here every module is again the very one that it was, and
    every weight frozen or not as before.

    model: without adapters.
    ranks: by linear module.
    scale: α/r of every module.
    heads: modules that train in full.
    """
    restore = remember(model)
    try:
        yield attach(model, _lora_on(model, ranks, scale=scale, heads=heads))
    finally:
        restore()


def attach_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Collection[str] = ()
) -> PeftModel:
    """LoRA on exactly these linear modules.

    model: without adapters.
    ranks: by linear module.
    scale: α/r of every module.
    heads: modules that train in full.
    """
    with restored_on_error(model):
        return attach(model, _lora_on(model, ranks, scale=scale, heads=heads))


def _lora_on(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Collection[str]
) -> LayerLensConfig:
    shapes = inspect(model).shapes
    entries = {name: Entry(method="lora", size=rank, shape=shapes[name]) for name, rank in ranks.items()}
    return configure(entries, scale=scale, heads=heads)


def _check_heads(model: PreTrainedModel, heads: Collection[str]) -> None:
    """Raises where PEFT, which finds heads by the end of their names, would take other modules for heads.

    PEFT adapts nothing inside what it takes for a head.
    """
    heads = set(heads)
    for name, _ in model.named_modules(remove_duplicate=False):
        if name not in heads and (head := next((head for head in sorted(heads) if name.endswith(head)), None)):
            raise ModelError(
                f"PEFT would train {name} in full, because its name ends like that of the head {head}; rename one"
            )
