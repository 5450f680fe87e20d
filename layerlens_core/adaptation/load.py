"""Attach an adapter as it was saved."""

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from layerlens_core.adaptation.adapter_files import check_adapter, check_loaded, find_adapter
from layerlens_core.adaptation.attach import quietly
from layerlens_core.adaptation.model import LayerLensModel  # noqa: F401  makes the type known to PEFT
from layerlens_core.adaptation.snapshot import restored_on_error
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import check_bare


def load(model: PreTrainedModel, source: str | Path, *, trainable: bool = False) -> PeftModel:
    """A saved adapter on its base model: `PeftModel.from_pretrained`, with everything checked.

    model: the base model, without adapters.
    source: the adapter's directory, or a hub id.
    trainable: to go on training it; otherwise it is frozen.

    Raises `FileError` where the adapter's files are missing or damaged, `ModelError` where the model carries adapters
    already or is another one, and what `LayerLensModel` raises; in all cases nothing is changed.
    """
    check_bare(model)
    directory = find_adapter(source)
    names = check_adapter(directory)
    with restored_on_error(model), quietly():
        try:
            loaded = PeftModel.from_pretrained(model, str(directory), is_trainable=trainable)
        except (ValueError, RuntimeError, KeyError) as error:
            # PEFT raises these for modules that it does not find, torch for shapes that differ.
            raise ModelError(f"{directory} does not fit this {type(model).__name__}: {_brief(error)}") from error
        check_loaded(loaded, names, directory)
    return loaded


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Torch lists the sizes that differ below a heading.
    return (lines[1] if len(lines) > 1 and "size mismatch" in lines[1] else lines[0]).strip()[:200]
