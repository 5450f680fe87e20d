"""The subspaces that cores lie in: those that were given, and those that are made of the model or of noise."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from attrs import define, field
from numpy.typing import NDArray
from torch import Tensor

from layerlens_core.comparison.stacked.methods.noise import normal
from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.errors import ModelError
from layerlens_core.files.directions import Pair, Subspace
from layerlens_core.profiling.model.weights import dense_weight
from layerlens_core.values.comparison import RANDOM, WEIGHTS, Job
from layerlens_core.values.plan import CORE

#: Made here: singular vectors of each module's own weight, and orthonormal noise.
MADE = (WEIGHTS, RANDOM)


@define(eq=False, kw_only=True)
class Subspaces:
    """What the arms of jobs find their subspaces by.

    testbed: with the model.
    given: by the name that `Arm.subspace` has.
    strengths: by the same name and module, singular values [k] in descending order, of the update that the subspace was
        taken from, scale included; for arms that start continued.
    """

    testbed: Testbed
    given: Mapping[str, Subspace] = field(factory=dict)
    strengths: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(factory=dict)
    _made: dict[tuple[str, int, str], Pair] = field(factory=dict, init=False)

    def of(self, job: Job, name: str, size: int) -> Pair:
        """The directions that a core is between: rows of U [size, out] and of V [size, in].

        job: whose arm it is.
        name: of the module.
        size: of the core.

        Raises `ModelError` where the arm's subspace is not known, or has fewer directions there.
        """
        source = job.arm.subspace
        pair = self._make(source, job.seed, name) if source in MADE else self._given(job, name)
        if size > len(pair.left):
            raise ModelError(
                f"the core of size {size} at {name} of {job.arm.key} is larger than its subspace, which has "
                f"{len(pair.left)} directions there"
            )
        return Pair(pair.left[:size], pair.right[:size])

    def start(self, job: Job, name: str, size: int) -> Tensor:
        """R [size, size] of an arm that starts continued: with s · U R V it is what the subspace was taken from, cut.

        job: whose arm it is.
        name: of the module.
        size: of the core.

        Raises `ModelError` where nothing is known of that.
        """
        strengths = self.strengths.get(job.arm.subspace, {}).get(name)
        if strengths is None:
            raise ModelError(f"{job.arm.key} cannot continue: its subspace at {name} comes without singular values")
        return torch.diag(torch.as_tensor(strengths[:size]).float() / job.arm.scale)

    def bases(self, jobs: Sequence[Job], name: str) -> tuple[Tensor, Tensor, list[int]]:
        """All subspaces of these jobs' cores at a module: U as rows [S, N, out], V [S, N, in], and by job which.

        jobs: some of which have a core there.
        name: of the module.

        Raises `ModelError` as `of`.
        """
        sizes = [job.arm.sizes.get(CORE, {}).get(name, 0) for job in jobs]
        found: dict[tuple[str, int], int] = {}
        largest: dict[tuple[str, int], tuple[Job, int]] = {}
        whose = []
        for job, size in zip(jobs, sizes, strict=True):
            key = (job.arm.subspace, job.seed if job.arm.subspace == RANDOM else 0)
            whose.append(found.setdefault(key, len(found)) if size else 0)
            if size > largest.get(key, (job, 0))[1]:
                largest[key] = job, size
        pairs = [self.of(*largest[key][:1], name, largest[key][1]) for key in found]
        sides = []
        for side in range(2):
            padded = torch.zeros(len(pairs), max(sizes), pairs[0][side].shape[1])
            for at, pair in enumerate(pairs):
                padded[at, : len(pair[side])] = torch.as_tensor(pair[side])
            sides.append(padded)
        return sides[0], sides[1], whose

    def _given(self, job: Job, name: str) -> Pair:
        arm = job.arm
        if arm.subspace not in self.given:
            known = ", ".join([*self.given, *MADE])
            raise ModelError(f"{arm.key} has cores in the subspace {arm.subspace!r}, which is none of {known}")
        if name not in self.given[arm.subspace]:
            raise ModelError(f"{arm.key} has a core at {name}, of which the subspace {arm.subspace!r} holds nothing")
        return self.given[arm.subspace][name]

    def _make(self, source: str, seed: int, name: str) -> Pair:
        key = (source, seed if source == RANDOM else 0, name)
        if key not in self._made:
            self._made[key] = self._of_weights(name) if source == WEIGHTS else self._of_noise(name, seed)
        return self._made[key]

    def _of_weights(self, name: str) -> Pair:
        target = next(module for module in self.testbed.inventory.linears() if module.name == name)
        model = self.testbed.model
        return leading(dense_weight(model.get_submodule(name), target, model)())

    def _of_noise(self, name: str, seed: int) -> Pair:
        shape = self.testbed.inventory.shapes[name]
        sides = []
        for side in ("out_features", "in_features"):
            rows = normal(f"{name} {side}", min(shape["out_features"], shape["in_features"]), shape[side], seed)
            sides.append(torch.linalg.qr(rows.T).Q.T.contiguous().numpy())
        return Pair(*sides)


def leading(matrix: Tensor, most: int | None = None) -> Pair:
    """Its singular vectors, the leading ones first: rows [k, out] and [k, in].

    matrix: [out, in].
    most: k at most.
    """
    left, _, right = torch.linalg.svd(matrix.detach().float(), full_matrices=False)
    return Pair(left.T[:most].contiguous().cpu().numpy(), right[:most].contiguous().cpu().numpy())
