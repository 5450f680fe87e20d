"""Safetensors files of a run, with a header of ours: written whole or not at all, equal bytes for equal contents.

The file's own metadata has one entry, ``layerlens``, which holds the header as JSON; safetensors would write several
entries in no fixed order. Arrays are NumPy's, so that nothing that reads a run's files imports torch.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from layerlens_core.files.atomic import replacing
from layerlens_core.files.json_text import parse

_KEY = "layerlens"

Arrays = dict[str, NDArray[Any]]


def write(path: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> bytes:
    """Write arrays under a header. Returns the file's content. Raises `FileError`."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content: bytes = safetensors.numpy.save(contiguous, metadata={_KEY: json.dumps(header, sort_keys=True)})
    with replacing(path) as file:
        file.buffer.write(content)
    return content


def digest(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> str:
    """A sha256 digest, in hexadecimal, of arrays with their names, shapes and types, and of a header of JSON."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()


def arrays_of(content: bytes) -> Arrays:
    """The arrays of a file's content, by name. Raises ``ValueError`` where it holds none that can be read."""
    try:
        arrays: Arrays = safetensors.numpy.load(content)
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
    return arrays


def header_of(content: bytes) -> dict[str, Any]:
    """The header of a file's content: 8 bytes of length, then that much JSON.

    Raises ``ValueError``, ``KeyError`` or ``TypeError`` where it has none.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 + length:
        raise ValueError("the file is shorter than its header")
    header = parse(parse(content[8 : 8 + length])["__metadata__"][_KEY])
    if not isinstance(header, dict):
        raise ValueError("the metadata is no mapping")
    return header
