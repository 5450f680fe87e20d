"""Adapters of cores in two files, and the ordinary LoRA that they are (`layerlens_core.adaptation.saved.compact`)."""

import shutil
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME, ModulesToSaveWrapper
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.adaptation.attach import attach
from layerlens_core.adaptation.attached import lora_layers
from layerlens_core.adaptation.config import Entry, LayerLensConfig, configure, plain_lora
from layerlens_core.adaptation.cores.subspaces import check_ranks, cores_of, find_subspace, place_cores
from layerlens_core.adaptation.one_rank import pad
from layerlens_core.adaptation.provided import provided_form
from layerlens_core.adaptation.saved.compact import CORES, Compact, read_compact
from layerlens_core.adaptation.saved.files import PREFIX
from layerlens_core.adaptation.snapshot import restored_on_error
from layerlens_core.errors import FileError, ModelError, PlanError
from layerlens_core.files.atomic import filling, replacing
from layerlens_core.files.directions import Pair, Subspace, write_directions
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.plan import CORE


def save_compact(
    model: PeftModel, directory: str | Path, *, subspace: str | Path | None = None, adapter: str = "default"
) -> Path:
    """Write an adapter of cores as ``core.safetensors``, a few KB, beside the subspaces that many adapters share.

    The subspaces' file is written into the directory, unless it lies there already or one directory above.

    model: of which nothing but cores, and heads, is trained.
    directory: where to write.
    subspace: the run's directory, or the file that the cores were applied with; by default they are taken from the
        model, and other adapters do not share them.
    adapter: its name.

    Returns the path of ``core.safetensors``. Raises `PlanError` where the adapter has more than cores, and `FileError`
    where the subspaces are not those of the adapter, or cannot be written.
    """
    config, directory = model.peft_config[adapter], Path(directory)
    ours = isinstance(config, LayerLensConfig)
    others = sorted({entry.method for entry in config.each().values()} - {CORE}) if ours else ["LoRA"]
    if others:
        raise PlanError(
            f"an adapter of cores can be saved compactly, but this one has {', '.join(others)}; use save_pretrained"
        )
    heads = _heads(model, adapter)
    digest = _lay_beside(model, directory, None if subspace is None else Path(subspace), adapter)
    compact = Compact(
        path=directory / CORES,
        cores={name: _array(core) for name, core in cores_of(model, adapter).items()},
        heads={f"{name}.{part}": _array(value) for name, head in heads.items() for part, value in head.items()},
        trained=tuple(heads),
        scale=config.scale,
        fingerprint=config.fingerprint,
        subspace=digest,
        base=config.base_model_name_or_path,
    )
    compact.write()
    return compact.path


def load_compact(
    model: PreTrainedModel, source: Path, *, subspace: str | Path | None = None, trainable: bool = False
) -> PeftModel:
    """An adapter that `save_compact` wrote, on its base model; see `layerlens_core.adaptation.load.load`.

    model: the base model, without adapters.
    source: the directory, or ``core.safetensors`` itself.
    subspace: where its subspaces are, if neither in the directory nor in the one above.
    trainable: to go on training it.
    """
    compact = read_compact(_file(source))
    inventory = inspect(model)
    if compact.fingerprint != inventory.fingerprint:
        raise ModelError(f"{compact.path} holds cores of another model than this {type(model).__name__}")
    found = _subspace(compact, subspace)
    entries = {
        name: Entry(method=CORE, size=size, shape=inventory.shapes[name]) for name, size in compact.sizes.items()
    }
    config = configure(entries, scale=compact.scale, heads=compact.trained)
    config.inference_mode = not trainable
    with restored_on_error(model):
        wrapped = attach(model, config)
        place_cores(wrapped, found, digest=compact.subspace, fingerprint=compact.fingerprint)
        with torch.no_grad():
            for name, core in cores_of(wrapped).items():
                core.copy_(torch.from_numpy(compact.cores[name]))
            _fill_heads(wrapped, compact)
        if not trainable:
            wrapped.requires_grad_(False).eval()
    return wrapped


def as_lora(source: str | Path, out: str | Path, *, subspace: str | Path | None = None, one_rank: bool = True) -> Path:
    """Write an adapter that `save_compact` wrote as the ordinary LoRA that it is, without its model.

    source: the directory, or ``core.safetensors`` itself.
    out: directory to write, which is replaced whole.
    subspace: where its subspaces are, if neither in the directory nor in the one above.
    one_rank: every tensor at the largest rank, padded with zeros, as servers want it, or each at its own.

    Returns the directory. Raises `FileError` where a file is missing, damaged or of another digest.
    """
    compact, out = read_compact(_file(Path(source))), Path(out)
    found = _subspace(compact, subspace)
    largest = max(compact.sizes.values())
    tensors: dict[str, Tensor] = {}
    for name, core in compact.cores.items():
        left, right = (torch.from_numpy(part[: len(core)].copy()) for part in found[name])
        tensors[f"{PREFIX}{name}.lora_A.weight"] = right
        tensors[f"{PREFIX}{name}.lora_B.weight"] = (left.mT @ torch.from_numpy(core)).contiguous()
    if one_rank:
        tensors = pad(tensors, largest)
    tensors |= {f"{PREFIX}{name}": torch.from_numpy(array) for name, array in compact.heads.items()}
    ranks = {name: largest if one_rank else size for name, size in compact.sizes.items()}
    config = plain_lora(ranks, scale=compact.scale, heads=compact.trained)
    config.base_model_name_or_path = compact.base
    config.inference_mode = True
    with filling(out) as staging:
        config.save_pretrained(str(staging))
        save_file(tensors, staging / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    return out


def is_compact(source: str | Path) -> bool:
    """Whether this is an adapter that `save_compact` wrote."""
    path = Path(source)
    return path.name == CORES or (path / CORES).exists()


def _file(source: Path) -> Path:
    return source / CORES if source.is_dir() else source


def _subspace(compact: Compact, given: str | Path | None) -> Subspace:
    """The subspaces of a compact adapter, which are large enough. Raises `FileError`."""
    beside = compact.path.parent
    places = [beside, beside.resolve().parent] if given is None else [Path(given)]
    _, found = find_subspace(places, fingerprint=compact.fingerprint, digest=compact.subspace)
    try:
        check_ranks(compact.sizes, found)
    except PlanError as error:
        raise FileError(f"{compact.path} is damaged: {error}") from None
    return found


def _lay_beside(model: PeftModel, directory: Path, given: Path | None, adapter: str) -> str:
    """See that the subspaces' file lies in the directory or above; returns its digest."""
    config = model.peft_config[adapter]
    if given is None:
        form = provided_form(CORE)
        own = {
            name: Pair(*map(_array, form.subspace(layer.lora_A[adapter], layer.lora_B[adapter])))
            for name, layer in lora_layers(model).items()
        }
        return write_directions(directory, own, fingerprint=config.fingerprint, seed=0, samples=0, source="warm-up")
    digest: str = config.subspace
    file, _ = find_subspace([given], fingerprint=config.fingerprint, digest=digest)
    try:
        find_subspace([directory, directory.resolve().parent], fingerprint=config.fingerprint, digest=digest)
    except FileError:
        with replacing(directory / file.name) as copy, file.open("rb") as original:
            shutil.copyfileobj(original, copy.buffer)
    return digest


def _heads(model: PeftModel, adapter: str) -> dict[str, dict[str, Tensor]]:
    """Heads that trained in full, by name, with their tensors by the names inside them."""
    return {
        name: dict(module.modules_to_save[adapter].state_dict())
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save
    }


def _fill_heads(model: PeftModel, compact: Compact) -> None:
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            head: nn.Module = module.modules_to_save["default"]
            for part, value in head.state_dict().items():
                array = compact.heads.get(f"{name}.{part}")
                if array is None or tuple(array.shape) != tuple(value.shape):
                    raise ModelError(f"{compact.path} lacks {name}.{part} of this model, or holds another shape of it")
                value.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
