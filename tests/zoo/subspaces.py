"""Subspaces of noise for a model, and plans of cores in them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from attrs import evolve
from transformers import PreTrainedModel

from layerlens_core.files.directions import Pair, Subspace, write_directions
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.plan import Plan
from zoo.plans import plan_with


def noise(model: PreTrainedModel, *, most: int = 12, seed: int = 0) -> Subspace:
    """Orthonormal vectors for every linear module, as many as its rank allows and at most so many."""
    generator = np.random.default_rng(seed)

    def rows(count: int, width: int) -> np.ndarray:
        return np.ascontiguousarray(np.linalg.qr(generator.standard_normal((width, count)))[0].T, dtype=np.float32)

    found = {}
    for module in inspect(model).modules:
        count = min(most, module.in_features, module.out_features)
        found[module.name] = Pair(rows(count, module.out_features), rows(count, module.in_features))
    return found


def written(model: PreTrainedModel, run: Path, subspace: Subspace | None = None) -> str:
    """Write subspaces into a run's directory, as those of a warm-up; returns their digest."""
    run.mkdir(parents=True, exist_ok=True)
    vectors = noise(model) if subspace is None else subspace
    fingerprint = inspect(model).fingerprint
    return write_directions(run, vectors, fingerprint=fingerprint, seed=0, samples=1, source="warm-up")


def cores_of_size(model: PreTrainedModel, run: Path, chosen: Mapping[str, tuple[str, int | Mapping[str, int]]]) -> Plan:
    """A plan as `plan_with` makes it, whose cores lie in subspaces of noise that are written into a run's directory."""
    return evolve(plan_with(model, chosen), subspace=written(model, run))
