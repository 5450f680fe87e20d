"""LoRA of K arms at one linear module: the frozen map is computed once for all rows, each arm's own update on its rows.

Every arm has B samples of the batch, and it is known which rows of a module's inputs are theirs
(`layerlens_core.profiling.attribution`). Their update is one batched matrix product, (α/r)·(x Aₖᵀ) Bₖᵀ, and its
derivatives are written straight into the arms' rows of gradients.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from attrs import define, frozen
from torch import Tensor

from layerlens_core.errors import ModelError
from layerlens_core.profiling.attribution.layout import Layout

#: Ranks are rounded up to this on a GPU, whose matrix units want it.
_ALIGNED = 8


@define(eq=False)
class Pass:
    """Which arms the model is running for, and how many samples each has in the batch.

    arms: a range of them.
    samples: of each.
    """

    arms: slice = slice(0, 0)
    samples: int = 0

    @property
    def count(self) -> int:
        """How many arms."""
        count: int = self.arms.stop - self.arms.start
        return count


@frozen(eq=False, kw_only=True)
class LowRank:
    """One module's LoRA in every arm.

    name: of the module.
    a: [K, R, in], R the largest of the ranks.
    b: [K, out, R].
    gradient_a: [K, R, in].
    gradient_b: [K, out, R].
    ranks: of every arm, 0 where it leaves the module frozen.
    scale: α/r.
    layouts: by number of dimensions, where the module keeps its samples.
    running: for which arms.
    """

    name: str
    a: Tensor
    b: Tensor
    gradient_a: Tensor
    gradient_b: Tensor
    ranks: Sequence[int]
    scale: float
    layouts: Mapping[int, Layout]
    running: Pass

    @property
    def rank(self) -> int:
        """The largest of the running arms."""
        rank = max(self.ranks[self.running.arms], default=0)
        return rank if self.a.device.type == "cpu" else min(-(-rank // _ALIGNED) * _ALIGNED, self.a.shape[1])

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output [..., out] with every arm's update on its rows, from the input [..., in]."""
        rank = self.rank
        if rank == 0:
            return output.detach()
        arms, working = self.running.arms, self.a.dtype
        hidden = torch.bmm(self._by_arm(inputs).to(working), self.a[arms, :rank].mT)
        rows = self._by_arm(output)
        b = self.b[arms, :, :rank].mT
        if output.dtype == working:
            added = torch.baddbmm(rows, hidden, b, alpha=self.scale)
        else:
            added = rows + self.scale * torch.bmm(hidden, b).to(output.dtype)
        return self._back(added, output)

    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add this batch's part to the gradients, and give the derivative by the inputs [..., in].

        inputs: [..., in].
        gradient: by the output [..., out].
        """
        rank = self.rank
        if rank == 0:
            return None
        arms, working, scale = self.running.arms, self.a.dtype, self.scale
        a, b = self.a[arms, :rank], self.b[arms, :, :rank]
        x, g = self._by_arm(inputs).to(working), self._by_arm(gradient).to(working)
        hidden = torch.bmm(x, a.mT)
        gradient_b, gradient_a = self.gradient_b[arms, :, :rank], self.gradient_a[arms, :rank]
        gradient_b.baddbmm_(g.mT, hidden, alpha=scale)
        of_hidden = torch.bmm(g, b).mul_(scale)
        gradient_a.baddbmm_(of_hidden.mT, x)
        return self._back(torch.bmm(of_hidden, a).to(inputs.dtype), inputs)

    def _by_arm(self, tensor: Tensor) -> Tensor:
        """A tensor [..., features] as [arms, rows of an arm, features]."""
        layout, arms = self._layout(tensor), self.running.count
        if layout.dim == 0 and layout.fold != "inner":
            return tensor.reshape(arms, -1, tensor.shape[-1])
        rows = layout.by_sample(tensor, arms * self.running.samples)
        if rows is None:
            raise ModelError(self._message(tensor))
        return rows.reshape(arms, -1, tensor.shape[-1])

    def _back(self, rows: Tensor, like: Tensor) -> Tensor:
        """What `_by_arm` gave, back in the places of a tensor."""
        layout = self._layout(like)
        if layout.dim == 0 and layout.fold != "inner":
            return rows.reshape(*like.shape[:-1], rows.shape[-1])
        samples = self.running.count * self.running.samples
        return layout.in_place(rows.reshape(samples, -1, rows.shape[-1]), tuple(like.shape[:-1]))

    def _layout(self, tensor: Tensor) -> Layout:
        layout = self.layouts.get(tensor.dim() - 1)
        if layout is None or not layout.fits(tuple(tensor.shape[:-1]), self.running.count * self.running.samples):
            raise ModelError(self._message(tensor))
        return layout

    def _message(self, tensor: Tensor) -> str:
        return (
            f"{self.name} was called with a tensor of shape {tuple(tensor.shape)}, in which the samples of "
            f"{self.running.count} arms of {self.running.samples} samples cannot be told apart"
        )


def drawn(name: str, rank: int, features: int, seed: int) -> Tensor:
    """LoRA's A as PEFT draws it, in U(−1/√in, 1/√in) [rank, in]: of one seed always the same, whatever the rank.

    Arms of one seed so start from the same noise, as far as their ranks go.

    name: of the module.
    rank: rows.
    features: in.
    seed: of the arm.
    """
    start = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(start)
    noise = torch.rand(rank, features, generator=generator)
    return (noise * 2 - 1) / math.sqrt(features)
