"""Adapters of cores as two files: ``core.safetensors`` of one's own, and ``subspace.safetensors`` that many share.

``core.safetensors`` holds the trained R [n, n] of every core, by the module's name, and heads that trained in full, by
their parameters' names after ``head:``. Its header has schema, version, α/r, the inventory's fingerprint and the digest
of the subspace file, which lies beside it, one directory above, or wherever the reader says. A core of size n takes the
first n rows of left and right (`layerlens_core.files.directions`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from layerlens_core.errors import FileError, brief
from layerlens_core.files import atomic, tensors
from layerlens_core.files.reading import read_file

#: The file's name.
CORES = "core.safetensors"
SCHEMA, VERSION = "layerlens/core", 1
_HEAD = "head:"


@frozen(eq=False, kw_only=True)
class Compact:
    """What ``core.safetensors`` says.

    path: of the file.
    cores: R [n, n], float32, by module.
    heads: parameters of heads by name, as in the model.
    trained: names of these heads.
    scale: α/r.
    fingerprint: of the inventory.
    subspace: digest of the subspace's file.
    base: name of the base model, where one was known.
    """

    path: Path
    cores: Mapping[str, NDArray[np.float32]]
    heads: Mapping[str, NDArray[Any]]
    trained: tuple[str, ...]
    scale: float
    fingerprint: str
    subspace: str
    base: str | None

    @property
    def sizes(self) -> dict[str, int]:
        """Of the cores, by module."""
        return {name: len(core) for name, core in self.cores.items()}

    def write(self) -> None:
        """Write the file, whole or not at all. Raises `FileError`."""
        header = {
            "schema": SCHEMA, "version": VERSION, "scale": self.scale, "fingerprint": self.fingerprint,
            "subspace": self.subspace, "heads": list(self.trained), "base": self.base,
        }  # fmt: skip
        arrays = dict(self.cores) | {f"{_HEAD}{name}": array for name, array in self.heads.items()}
        tensors.write(self.path, arrays, header)


def read_compact(path: Path) -> Compact:
    """What a ``core.safetensors`` says. Raises `FileError` where it is missing or damaged, and names what."""
    atomic.settle(path.parent)
    content = read_file(path, advice="save the adapter again", most=None)
    try:
        header, arrays = tensors.header_of(content), tensors.arrays_of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is damaged: {brief(error)}") from None
    if header.get("schema") != SCHEMA or header.get("version") != VERSION:
        said = f"{brief(header.get('schema'))} of version {brief(header.get('version'))}"
        raise FileError(f"{path} is {said}; this LayerLens reads {SCHEMA} of version {VERSION}")
    _check_header(path, header)
    cores = {name: array for name, array in arrays.items() if not name.startswith(_HEAD)}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise FileError(f"{path} is damaged: {brief(name)} is not of finite floating-point numbers")
    for name, core in cores.items():
        if core.dtype != np.float32 or core.ndim != 2 or not 0 < core.shape[0] == core.shape[1]:
            raise FileError(f"{path} is damaged: the core of {brief(name)} is no square matrix of float32")
    if not cores:
        raise FileError(f"{path} is damaged: it holds no core")
    return Compact(
        path=path,
        cores=cores,
        heads={name.removeprefix(_HEAD): array for name, array in arrays.items() if name.startswith(_HEAD)},
        trained=tuple(header["heads"]),
        scale=float(header["scale"]),
        fingerprint=header["fingerprint"],
        subspace=header["subspace"],
        base=header["base"],
    )


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    scale, heads, base = header.get("scale"), header.get("heads"), header.get("base", 0)
    wrong = [
        name
        for name, sound in {
            "scale": type(scale) in (int, float) and 0 < scale < 1e300,  # type: ignore[operator]
            "fingerprint": isinstance(header.get("fingerprint"), str),
            "subspace": isinstance(header.get("subspace"), str),
            "heads": isinstance(heads, list) and all(isinstance(name, str) and name for name in heads),
            "base": base is None or isinstance(base, str),
        }.items()
        if not sound
    ]
    if wrong:
        raise FileError(f"{path} is damaged: its {wrong[0]} is {brief(header.get(wrong[0]))}")
