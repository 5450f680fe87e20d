"""``directions.safetensors``: the leading right singular vectors of every module's mean gradient, beside a profile.

One float32 array [k, in] a module, by the module's name, under a header (`layerlens_core.files.tensors`) with schema,
version, the inventory's fingerprint, the seed and the number of samples. The profile records the file's digest.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerlens_core.errors import FileError, brief
from layerlens_core.files import atomic, tensors
from layerlens_core.files.reading import read_file
from layerlens_core.files.run import DIRECTIONS

SCHEMA, VERSION = "layerlens/directions", 1
_AGAIN = "profile again with --directions"
#: By how much the length of a row may differ from 1.
_LENGTH = 1e-3

Vectors = Mapping[str, NDArray[np.float32]]


def write_directions(
    run: str | Path, vectors: Mapping[str, NDArray[Any]], *, fingerprint: str, seed: int, samples: int
) -> str:
    """Write ``directions.safetensors`` into the run's directory, whole or not at all.

    run: the directory.
    vectors: [k, in] by module.
    fingerprint: of the inventory.
    seed: that drew the sketches.
    samples: how many the mean gradient is over.

    Returns the sha256 digest of the file, in hexadecimal.
    """
    header = {"schema": SCHEMA, "version": VERSION, "fingerprint": fingerprint, "seed": seed, "samples": samples}
    plain = {name: vectors[name].astype(np.float32) for name in sorted(vectors)}
    content = tensors.write(Path(run) / DIRECTIONS, plain, header)
    return hashlib.sha256(content).hexdigest()


def read_directions(path: str | Path, *, fingerprint: str, digest: str | None = None) -> Vectors:
    """Right singular vectors [k, in] by module, float32, rows of length 1 in descending order of singular values.

    path: the file, or the run's directory.
    fingerprint: of the inventory of the model at hand.
    digest: what the profile recorded; None accepts any.

    Raises `FileError` where the file is missing, damaged, of another version, of another model, or not the one that the
    profile was written with.
    """
    path = Path(path) / DIRECTIONS if Path(path).is_dir() else Path(path)
    atomic.settle(path.parent)
    content = read_file(path, advice=_AGAIN, most=None)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise FileError(f"{path} is damaged, or not the file that its profile was written with; {_AGAIN}")
    try:
        header = tensors.header_of(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{path} is damaged: it is no safetensors file with a header of ours; {_AGAIN}") from None
    if header.get("schema") != SCHEMA:
        raise FileError(f"{path} is not a {SCHEMA} file")
    if header.get("version") != VERSION:
        raise FileError(f"{path} is of version {brief(header.get('version'))}; this LayerLens reads version {VERSION}")
    if header.get("fingerprint") != fingerprint:
        raise FileError(f"{path} holds the directions of another model; {_AGAIN} on this one")
    try:
        vectors = tensors.arrays_of(content)
    except ValueError as error:
        raise FileError(f"{path} is damaged: {brief(error)}; {_AGAIN}") from None
    for name, array in vectors.items():
        if array.ndim != 2 or array.dtype != np.float32:
            raise FileError(f"{path} is damaged: {brief(name)} is no matrix of float32; {_AGAIN}")
        if not (np.abs(np.linalg.norm(array.astype(np.float64), axis=1) - 1) < _LENGTH).all():
            raise FileError(f"{path} is damaged: {brief(name)} has rows that are not of length 1; {_AGAIN}")
    return vectors
