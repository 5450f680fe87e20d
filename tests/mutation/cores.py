"""The reader of compact adapters: ``core.safetensors`` of cores, and of heads beside them."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from layerlens_core.adaptation.saved.compact import CORES, Compact, read_compact
from mutation.content import as_safetensors, bytewise
from mutation.readers import Reader


def core_reader(root: Path) -> Reader:
    """``ll.load`` of a compact adapter, before a model is asked."""
    folder, draw = root / "core", np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    Compact(
        path=folder / CORES,
        cores={f"layers.{n}.up": draw.standard_normal((n + 1, n + 1), dtype=np.float32) for n in range(3)},
        heads={"score.weight": draw.standard_normal((2, 4), dtype=np.float32)},
        trained=("score",),
        scale=2.0,
        fingerprint="a" * 64,
        subspace="b" * 64,
        base="some/model",
    ).write()

    def again(found: Compact, place: Path) -> Compact:
        attrs.evolve(found, path=place / CORES).write()
        return read_compact(place / CORES)

    return Reader(
        folder=folder,
        targets={CORES: (as_safetensors, bytewise)},
        read=lambda place: read_compact(place / CORES),
        same=same,
        again=again,
    )


def same(one: Compact, other: Compact) -> bool:
    """Whether two say the same, wherever they lie."""

    def told(compact: Compact) -> dict[str, Any]:
        plain = {field.name: getattr(compact, field.name) for field in attrs.fields(Compact) if field.name != "path"}
        for part in ("cores", "heads"):
            plain[part] = {name: (array.dtype.str, array.tolist()) for name, array in plain[part].items()}
        return plain

    return told(one) == told(other)
