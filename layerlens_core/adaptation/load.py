"""Attach an adapter as it was saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from transformers import PreTrainedModel

from layerlens_core.adaptation.attach import quietly
from layerlens_core.adaptation.cores.compact import is_compact, load_compact
from layerlens_core.adaptation.saved.beside import embedding_names, replaced_embeddings
from layerlens_core.adaptation.saved.config import read_config
from layerlens_core.adaptation.saved.files import PREFIX, AdapterFiles, find_adapter, read_adapter
from layerlens_core.adaptation.saved.fit import configuration
from layerlens_core.adaptation.snapshot import restored_on_error
from layerlens_core.errors import LayerLensError, ModelError, first_line
from layerlens_core.inspection.inspect import check_bare


def load(
    model: PreTrainedModel,
    source: str | Path,
    *,
    trainable: bool = False,
    one_rank: bool | None = None,
    subspace: str | Path | None = None,
) -> PeftModel:
    """A saved adapter on its base model: `PeftModel.from_pretrained`, with everything checked first.

    An adapter that `save_compact` wrote goes on as cores. Cores that were saved as an ordinary LoRA are one: training
    goes on with A and B.

    LoRA that was padded to one rank has its planned ranks again. Embeddings that were saved with the adapter, as PEFT
    does where they were resized, take the place of the model's.

    model: the base model, without adapters; its embeddings resized as before the training.
    source: the adapter's directory, or a hub id.
    trainable: to go on training it; otherwise it is frozen.
    one_rank: how ``save_pretrained`` writes it, as in `apply`; None as it was found.
    subspace: where the subspaces of a compact adapter are, if neither in its directory nor in the one above.

    Raises `FileError` where the adapter's files are missing or damaged, or say what no plan writes, `ModelError` where
    the model carries adapters already or is another one, and what `LayerLensModel` raises; in all cases nothing is
    changed.
    """
    check_bare(model)
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"load takes a model of transformers as it was loaded, not {type(model).__name__}")
    if is_compact(source):
        return load_compact(model, Path(source), subspace=subspace, trainable=trainable)
    files = read_adapter(find_adapter(source))
    config = configuration(files, read_config(files), model)
    if one_rank is not None:
        config.one_rank = one_rank
    with restored_on_error(model), _embeddings_kept(model, files), quietly():
        try:
            loaded = PeftModel.from_pretrained(model, str(files.directory), config=config, is_trainable=trainable)
        except LayerLensError:
            raise
        except Exception as error:  # of PEFT or torch, which say it in many ways
            raise ModelError(f"{files.directory} does not fit this {type(model).__name__}: {_brief(error)}") from error
        _check_loaded(loaded, files)
    return loaded


def _check_loaded(model: PeftModel, files: AdapterFiles) -> None:
    """Raises `ModelError` where a model took other tensors than the adapter holds."""
    expected = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    names = {PREFIX + name for name in files.tensors}
    if lacking := sorted(expected - names):
        raise ModelError(
            f"{files.directory} lacks {lacking[0]}, which this model needs ({len(lacking)} tensors are missing)"
        )
    own = tuple(f"{PREFIX}{name}." for name in embedding_names(model.get_base_model()))
    if added := sorted(name for name in names - expected if not name.startswith(own)):
        raise ModelError(
            f"{files.directory} holds {added[0]}, for which this model has no place ({len(added)} such tensors)"
        )


@contextmanager
def _embeddings_kept(model: PreTrainedModel, files: AdapterFiles) -> Iterator[None]:
    """Gives embeddings that an adapter replaces the values that they had where the body raises."""
    weights = replaced_embeddings(files, model)
    before = [parameter.detach().clone() for parameter in weights]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for parameter, value in zip(weights, before, strict=True):
                parameter.copy_(value)
        raise


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Torch lists the sizes that differ below a heading.
    return (lines[1] if len(lines) > 1 and "size mismatch" in lines[1] else first_line(error)).strip()[:200]
