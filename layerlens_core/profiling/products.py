"""Exact norms of per-sample and per-group gradients of a linear module, by several routes.

For sample i with inputs aᵢ [T, in] and output gradients bᵢ [T, out] the weight gradient is gᵢ = bᵢᵀ aᵢ. Wanted are some
of ‖gᵢ‖², ‖Σ gᵢ‖² over groups of consecutive samples, and Σ gᵢ itself. With Gram matrices,
⟨gᵢ, gⱼ⟩ = Σₜₛ (aᵢₜ·aⱼₛ)(bᵢₜ·bⱼₛ), and no [out, in] matrix is formed:

sample-gram  the T × T Gram matrices of each sample: ‖gᵢ‖².
group-gram   those, and the ones between samples of a group (three of T × T for a pair): ‖gᵢ‖² and ‖Σ gᵢ‖².
direct       batched products gᵢ, a few groups at a time; where no ‖gᵢ‖² is wanted, Σ gᵢ of each group at once.
mixed        sample-gram for ‖gᵢ‖², and Σ gᵢ of each group at once.

Dropping the terms t ≠ s, a common approximation, is wrong.
"""

from collections.abc import Callable
from typing import Literal

import torch
from attrs import define, field, frozen
from torch import Tensor

Route = Literal["sample-gram", "group-gram", "direct", "mixed"]

#: Called with Σ gᵢ [groups, out, in] of consecutive groups, and the number of the first. It may overwrite them.
Consumer = Callable[[Tensor, int], None]

#: What it costs to write an entry of a gradient and read it again, in multiplications: memory is slower than matmul.
TRAFFIC = {"cpu": 40, "cuda": 350}
#: Entries of gradients that are held at once, unless one group has more.
HELD = {"cpu": 2**22, "cuda": 2**27}


@frozen(kw_only=True)
class Wanted:
    """What is wanted of a module: ‖gᵢ‖², ‖Σ gᵢ‖² of every group, Σ gᵢ of every group."""

    norms: bool
    group_norms: bool
    group_sums: bool

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that give all of it."""
        if not self.norms:
            return ("direct",)
        if self.group_sums:
            return ("direct", "mixed")
        return ("group-gram", "direct", "mixed") if self.group_norms else ("sample-gram", "direct")


@define(eq=False)
class Rows:
    """Inputs or output gradients [samples, T, features] of consecutive whole groups, and their Gram matrices.

    Modules that share an input share its `Rows`, and so its Gram matrices, which are computed once.
    """

    rows: Tensor
    _grams: dict[tuple[int, int], Tensor] = field(factory=dict)

    def gram(self, group: int, apart: int) -> Tensor:
        """[groups, group − apart, T, T]: of samples i and i + apart of every group."""
        if (group, apart) not in self._grams:
            grouped = by_group(self.rows, group)
            self._grams[group, apart] = grouped[:, : group - apart] @ grouped[:, apart:].mT
        return self._grams[group, apart]


def cheapest(
    wanted: Wanted, *, group: int, tokens: int, inputs: int, outputs: int, sharers: int = 1, device: str = "cpu"
) -> Route:
    """The route with the least work a sample, by shapes alone. sharers: modules that share the inputs."""
    traffic = TRAFFIC.get(device, TRAFFIC["cuda"])
    gram = tokens**2 * (inputs / sharers + outputs)
    product, entries = tokens * inputs * outputs, inputs * outputs
    work: dict[Route, float] = {
        "sample-gram": gram,
        "group-gram": gram * (group + 1) / 2,
        "direct": product + traffic * (entries if wanted.norms else entries / group),
        "mixed": gram + product + traffic * entries / group,
    }
    return min(wanted.routes, key=work.__getitem__)


def reduce(
    inputs: Rows, gradients: Rows, *, group: int, wanted: Wanted, route: Route, consume: Consumer | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """‖gᵢ‖² [samples] and ‖Σ gᵢ‖² [groups], float64 on the device; None for what is not wanted.

    The samples are whole groups. consume: gets the sums of groups where they are wanted.
    Raises `ValueError` for a route that does not give all that is wanted.
    """
    if route not in wanted.routes:
        raise ValueError(f"the route {route} does not give {wanted}; use one of {', '.join(wanted.routes)}")
    if route in ("sample-gram", "group-gram"):
        norms = _inner(inputs, gradients, group, 0)
        if route == "sample-gram":
            return norms.flatten(), None
        together = norms.sum(dim=1)
        for apart in range(1, group):
            together += 2 * _inner(inputs, gradients, group, apart).sum(dim=1)
        return norms.flatten(), together
    singly = wanted.norms and route == "direct"
    norms_of, group_norms = [], []
    if wanted.norms and not singly:
        norms_of.append(_inner(inputs, gradients, group, 0).flatten())
    x, d = (by_group(part.rows, group) for part in (inputs, gradients))
    matrix = x.shape[-1] * d.shape[-1]
    step = max(1, HELD.get(x.device.type, HELD["cuda"]) // (matrix * (group if singly else 1)))
    for start in range(0, len(x), step):
        few = slice(start, start + step)
        if singly:
            per_sample = d[few].flatten(0, 1).mT @ x[few].flatten(0, 1)
            norms_of.append(squared_norms(per_sample))
            if consume is None and not wanted.group_norms:
                continue
            sums = per_sample if group == 1 else by_group(per_sample, group).sum(dim=1)
        else:
            sums = d[few].flatten(1, 2).mT @ x[few].flatten(1, 2)
        if wanted.group_norms:
            group_norms.append(squared_norms(sums))
        if consume is not None:
            consume(sums, start)
    return torch.cat(norms_of) if norms_of else None, torch.cat(group_norms) if group_norms else None


def by_group(tensor: Tensor, group: int) -> Tensor:
    """[samples, …] as [groups, group, …]."""
    return tensor.view(-1, group, *tensor.shape[1:])


def squared_norms(matrices: Tensor) -> Tensor:
    """Squared Frobenius norms [...] in float64 of matrices [..., out, in].

    Rows are summed in the matrices' own precision, and the row sums in float64: one float32 sum over a large
    matrix loses three digits.
    """
    return matrices.square().sum(dim=-1).sum(dim=-1, dtype=torch.float64)


def _inner(inputs: Rows, gradients: Rows, group: int, apart: int) -> Tensor:
    """⟨gᵢ, gⱼ⟩ [groups, group − apart] of samples i and j = i + apart of every group, in float64."""
    together = gradients.gram(group, apart) * inputs.gram(group, apart)
    return together.sum(dim=-1).sum(dim=-1, dtype=torch.float64)
