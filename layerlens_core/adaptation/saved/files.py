"""Where an adapter lies, and the JSON and the tensors that it is made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from attrs import frozen
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import Tensor

from layerlens_core.errors import FileError, first_line
from layerlens_core.files.atomic import settle
from layerlens_core.files.json_text import parse

#: What PEFT puts before the names of a model's modules.
PREFIX = "base_model.model."


@frozen(eq=False)
class AdapterFiles:
    """An adapter's files as they were read.

    directory: where they lie.
    config: what adapter_config.json says.
    tensors: of adapter_model.safetensors, by name without `PREFIX`; floating-point and finite.
    """

    directory: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def config_path(self) -> Path:
        """The configuration's file, for messages."""
        return self.directory / str(CONFIG_NAME)


def find_adapter(source: str | Path) -> Path:
    """The directory of an adapter: a local one, or that of a hub id. Raises `FileError` where there is none."""
    if not isinstance(source, str | Path):
        raise FileError(f"an adapter is a directory or a hub id, not {source!r}")
    path = Path(source)
    try:
        if path.is_dir():
            settle(path)  # what a killed process left of writing it
            if not (path / CONFIG_NAME).is_file():
                named = sorted(config.parent.name for config in path.glob(f"*/{CONFIG_NAME}"))
                hint = f"; there is one in {path / named[0]}" if named else ""
                raise FileError(f"{path} holds no {CONFIG_NAME}, so it is no adapter{hint}")
            return path
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FileError(f"{source} is no directory, and no adapter of the hub: {first_line(error)}") from None


def read_adapter(directory: Path) -> AdapterFiles:
    """An adapter's files. Raises `FileError` where one is missing or damaged, or holds what no training leaves."""
    path = directory / CONFIG_NAME
    try:
        config: Any = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is damaged: {first_line(error)}") from None
    if not isinstance(config, dict):
        raise FileError(f"{path} is damaged: it is no JSON object")
    return AdapterFiles(directory, config, _read_tensors(directory / SAFETENSORS_WEIGHTS_NAME))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileError(f"{path} does not exist, so the adapter has no weights")
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no mapping
                tensors[name] = file.get_tensor(name)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise FileError(f"{path} is damaged: {first_line(error)}") from None
    for name, tensor in tensors.items():
        if not (name.startswith(PREFIX) and name.isprintable()):
            raise FileError(f"{path} holds {name[:200]!r}, whose name does not begin with {PREFIX} as PEFT's do")
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise FileError(f"{path} holds {name} in {tensor.dtype}, which no adapter is trained in")
        if not bool(torch.isfinite(tensor).all()):
            raise FileError(f"{path} holds {name}, which is not finite")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
