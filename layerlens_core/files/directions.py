"""Leading singular vectors beside a profile: left and right ones of every module, where they come from, and for whom.

``directions.safetensors`` is of the modules' mean gradients, ``subspace.safetensors`` of their updates in a warm-up.
Both have one format: for each module two float32 arrays with orthonormal rows, ``NAME:left`` [k, out] and
``NAME:right`` [k, in], under a header (`layerlens_core.files.tensors`) with schema, version, source, the inventory's
fingerprint, the seed and the number of samples. The profile records the digest of each file.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerlens_core.errors import FileError, brief
from layerlens_core.files import atomic, tensors
from layerlens_core.files.reading import read_file
from layerlens_core.files.run import DIRECTIONS, SUBSPACE

SCHEMA, VERSION = "layerlens/directions", 2
#: What the vectors are of: mean gradients, or the updates of a warm-up.
Source = Literal["gradient", "warm-up"]
#: By source, the file's name in a run's directory, and how to get another.
_NAMES: Mapping[Source, str] = {"gradient": DIRECTIONS, "warm-up": SUBSPACE}
_AGAIN: Mapping[Source, str] = {
    "gradient": "profile again with --directions",
    "warm-up": "profile again with --warm-up",
}
#: By how much an inner product of two rows may differ from that of orthonormal ones.
_ORTHONORMAL = 1e-3
_SIDES = ("left", "right")


class Pair(NamedTuple):
    """Leading singular vectors of one matrix [out, in], such as a module's mean gradient or its update.

    Row i of ``left`` belongs to row i of ``right``: the i-th term of the decomposition is σᵢ · leftᵢ ⊗ rightᵢ, so that
    a change of sign of one row is one of the other's too. The first n rows of both are the leading pair of size n.

    left: orthonormal rows [k, out], float32, the leading one first.
    right: orthonormal rows [k, in], float32, the leading one first.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]


#: By name of the linear module; k may differ from one to another.
Subspace = Mapping[str, Pair]


def write_directions(
    run: str | Path,
    vectors: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    *,
    fingerprint: str,
    seed: int,
    samples: int,
    source: Source = "gradient",
) -> str:
    """Write the file of a source into the run's directory, whole or not at all.

    run: the directory.
    vectors: left [k, out] and right [k, in], as in `Pair`, by module.
    fingerprint: of the inventory.
    seed: that drew the sketches, or the warm-up's adapters and batches.
    samples: how many the vectors come from.
    source: what they are of, which decides the file's name.

    Returns the sha256 digest of the file, in hexadecimal. Raises `FileError`.
    """
    header = {
        "schema": SCHEMA, "version": VERSION, "source": source, "fingerprint": fingerprint, "seed": seed,
        "samples": samples,
    }  # fmt: skip
    arrays = {
        f"{name}:{side}": array.astype(np.float32)
        for name in sorted(vectors)
        for side, array in zip(_SIDES, vectors[name], strict=True)
    }
    content = tensors.write(Path(run) / _NAMES[source], arrays, header)
    return hashlib.sha256(content).hexdigest()


def read_directions(
    path: str | Path, *, fingerprint: str, digest: str | None = None, source: Source = "gradient"
) -> Subspace:
    """Left and right singular vectors by module, in descending order of singular values.

    path: the file, or the run's directory.
    fingerprint: of the inventory of the model at hand.
    digest: what the profile recorded; None accepts any.
    source: what the vectors have to be of.

    Raises `FileError` where the file is missing, damaged, of another source, version or model, or not the one that the
    profile was written with.
    """
    path = Path(path) / _NAMES[source] if Path(path).is_dir() else Path(path)
    content = _content(path, source)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise FileError(f"{path} is damaged, or not the file that its profile was written with; {_AGAIN[source]}")
    return _subspace(path, content, fingerprint, source)


def _content(path: Path, source: Source) -> bytes:
    atomic.settle(path.parent)
    return read_file(path, advice=_AGAIN[source], most=None)


def _subspace(path: Path, content: bytes, fingerprint: str, source: Source) -> Subspace:
    """What a file's content holds. Raises `FileError`."""
    again = _AGAIN[source]
    try:
        header = tensors.header_of(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{path} is damaged: it is no safetensors file with a header of ours; {again}") from None
    if header.get("schema") != SCHEMA:
        raise FileError(f"{path} is not a {SCHEMA} file")
    if header.get("version") != VERSION:
        raise FileError(
            f"{path} is of version {brief(header.get('version'))}; this LayerLens reads version {VERSION}; {again}"
        )
    if header.get("source") != source:
        raise FileError(f"{path} holds vectors of {brief(header.get('source'))}, not of a {source}; {again}")
    if header.get("fingerprint") != fingerprint:
        raise FileError(f"{path} holds the directions of another model; {again} on this one")
    try:
        arrays = tensors.arrays_of(content)
        return {name: _pair(name, arrays) for name in _modules(arrays)}
    except ValueError as error:
        raise FileError(f"{path} is damaged: {brief(error)}; {again}") from None


def _modules(arrays: tensors.Arrays) -> list[str]:
    """The modules that arrays are of. Raises ``ValueError`` for an array that is of none."""
    found = set()
    for key in arrays:
        name, _, side = key.rpartition(":")
        if not name or side not in _SIDES:
            raise ValueError(f"{brief(key)} is neither left nor right vectors of a module")
        found.add(name)
    return sorted(found)


def _pair(name: str, arrays: tensors.Arrays) -> Pair:
    """One module's vectors. Raises ``ValueError`` where they are none."""
    try:
        pair = Pair(*(arrays[f"{name}:{side}"] for side in _SIDES))
    except KeyError:
        raise ValueError(f"{brief(name)} has vectors of one side alone") from None
    for array in pair:
        if array.ndim != 2 or array.dtype != np.float32 or not len(array):
            raise ValueError(f"{brief(name)} has vectors that are no matrix of float32")
        if not are_orthonormal(array):
            raise ValueError(f"{brief(name)} has rows that are not orthonormal")
    if len(pair.left) != len(pair.right):
        raise ValueError(f"{brief(name)} has {len(pair.left)} left vectors and {len(pair.right)} right ones")
    return pair


def are_orthonormal(rows: NDArray[Any]) -> bool:
    """Whether inner products of rows [k, n] are those of orthonormal ones, to 1e-3; false where one is not finite."""
    if len(rows) > rows.shape[1] or not np.isfinite(rows).all():
        return False
    wide = rows.astype(np.float64)
    return bool((np.abs(wide @ wide.T - np.eye(len(wide))) < _ORTHONORMAL).all())
