"""Adapters on disk: found, checked before a model is touched, and compared with what was loaded."""

from pathlib import Path
from typing import Any

import safetensors
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import PeftModel
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, get_peft_model_state_dict

from layerlens_core.adaptation.config import PEFT_TYPE, VERSION
from layerlens_core.errors import FileError, ModelError, first_line
from layerlens_core.files.json_text import parse


def find_adapter(source: str | Path) -> Path:
    """The directory of an adapter: a local one, or that of a hub id. Raises `FileError` where there is none."""
    path = Path(source)
    if path.is_dir():
        if not (path / CONFIG_NAME).exists():
            named = sorted(config.parent.name for config in path.glob(f"*/{CONFIG_NAME}"))
            hint = f"; there is one in {path / named[0]}" if named else ""
            raise FileError(f"{path} holds no {CONFIG_NAME}, so it is no adapter{hint}")
        return path
    try:
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FileError(f"{source} is no directory, and no adapter of the hub: {first_line(error)}") from None


def check_adapter(directory: Path) -> frozenset[str]:
    """The names of an adapter's tensors. Raises `FileError` where one of its files is missing, damaged or foreign."""
    path, weights = directory / CONFIG_NAME, directory / SAFETENSORS_WEIGHTS_NAME
    try:
        config: Any = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is damaged: {first_line(error)}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind not in ("LORA", PEFT_TYPE):
        raise FileError(f"{path} describes an adapter of type {kind}; LayerLens loads LORA and {PEFT_TYPE}")
    if kind == PEFT_TYPE:
        _check_entries(path, config)
    try:
        with safetensors.safe_open(weights, framework="pt") as file:
            return frozenset(file.keys())
    except FileNotFoundError:
        raise FileError(f"{weights} does not exist, so the adapter has no weights") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise FileError(f"{weights} is damaged: {first_line(error)}") from None


def check_loaded(model: PeftModel, names: frozenset[str], directory: Path) -> None:
    """Raises `ModelError` where a model took other tensors than the adapter holds."""
    expected = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    if lacking := sorted(expected - names):
        raise ModelError(f"{directory} lacks {lacking[0]}, which this model needs ({len(lacking)} tensors are missing)")
    if added := sorted(names - expected):
        raise ModelError(f"{directory} holds {added[0]}, for which this model has no place ({len(added)} such tensors)")


def _check_entries(path: Path, config: dict[str, Any]) -> None:
    version = config.get("version")
    if version != VERSION:
        raise FileError(f"{path} is of version {version}; this LayerLens reads version {VERSION}")
    entries = config.get("entries")
    if not isinstance(entries, dict) or not entries:
        raise FileError(f"{path} is damaged: it has no entries")
    for name, entry in entries.items():
        if not _is_entry(entry):
            raise FileError(f"{path} is damaged: the entry of {name} is not a method, a size and a shape")


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"method", "size", "shape"}:
        return False
    size, shape = entry["size"], entry["shape"]
    numbers = [size, *shape.values()] if isinstance(shape, dict) and shape else [None]
    return isinstance(entry["method"], str) and all(type(n) is int and n > 0 for n in numbers)
