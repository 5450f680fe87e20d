"""LoRA of K arms at one linear module: the frozen map is computed once for all rows, each arm's own update on its rows.

The updates are one batched matrix product, (α/r)·(x Aₖᵀ) Bₖᵀ, and their derivatives are written straight into the arms'
rows of gradients.
"""

from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor

from layerlens_core.comparison.stacked.methods.noise import drawn
from layerlens_core.comparison.stacked.methods.place import Place

#: As PEFT names them.
A, B = "lora_A.default.weight", "lora_B.default.weight"


@frozen(eq=False, kw_only=True)
class LowRank(Place):
    """LoRA: A of [K, R, in], B of [K, out, R], R the largest of the ranks. Both are functions of the input."""

    @staticmethod
    def shapes(size: int, shape: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
        return {A: (size, shape["in_features"]), B: (shape["out_features"], size)}

    @staticmethod
    def start(name: str, size: int, shape: Mapping[str, int], seed: int) -> Mapping[str, Tensor]:
        return {A: drawn(name, size, shape["in_features"], seed)}

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output [..., out] with every arm's update on its rows, from the input [..., in]."""
        rank = self.size
        if rank == 0:
            return output.detach()
        a, b = self._factors(rank)
        hidden = torch.bmm(self._by_arm(inputs).to(a.dtype), a.mT)
        rows = self._by_arm(output)
        if output.dtype == a.dtype:
            added = torch.baddbmm(rows, hidden, b.mT, alpha=self.scale)
        else:
            added = rows + self.scale * torch.bmm(hidden, b.mT).to(output.dtype)
        return self._back(added, output)

    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add to the gradients, and give the derivative by the inputs [..., in], from that by the output [..., out]."""
        rank = self.size
        if rank == 0:
            return None
        arms, scale, (a, b) = self.running.arms, self.scale, self._factors(rank)
        x, g = self._by_arm(inputs).to(a.dtype), self._by_arm(gradient).to(a.dtype)
        hidden = torch.bmm(x, a.mT)
        gradient_b, gradient_a = self.gradients[B][arms, :, :rank], self.gradients[A][arms, :rank]
        gradient_b.baddbmm_(g.mT, hidden, alpha=scale)
        of_hidden = torch.bmm(g, b).mul_(scale)
        gradient_a.baddbmm_(of_hidden.mT, x)
        return self._back(torch.bmm(of_hidden, a).to(inputs.dtype), inputs)

    def _factors(self, rank: int) -> tuple[Tensor, Tensor]:
        arms = self.running.arms
        return self.tensors[A][arms, :rank], self.tensors[B][arms, :, :rank]
