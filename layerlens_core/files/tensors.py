"""Safetensors files of a run, with a header of ours: written whole or not at all, equal bytes for equal contents.

The file's own metadata has one entry, ``layerlens``, with the header as JSON: several entries would be written in no
certain order.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from layerlens_core.files import documents as files

_KEY = "layerlens"


def write(path: Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Write tensors, contiguous and on the CPU, under a header; the file's content. Raises `FileError`."""
    content = safetensors.torch.save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)})
    with files.replacing(path) as file:
        file.buffer.write(content)
    return content


def header_of(content: bytes) -> dict[str, Any]:
    """The header of a file's content: 8 bytes of length, then that much JSON.

    Raises ``ValueError``, ``KeyError`` or ``TypeError`` where it has none.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 + length:
        raise ValueError("the file is shorter than its header")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
    if not isinstance(header, dict):
        raise ValueError("the metadata is no mapping")
    return header
