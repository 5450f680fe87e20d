"""The two factors of a core: V, frozen, in the place of LoRA's A, and U·R in the place of B, of which R is trained.

Saved, loaded and merged, they are a LoRA: their state holds V and U·R under the names that PEFT gives A and B. What is
loaded gives R back as Uᵀ·B.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from layerlens_core.plugin import Entry, LowRankForm

#: The share of a B that may lie outside U's columns before it is another subspace's: rounding to 16 bits is below it.
OUTSIDE = 0.02


class FrozenRows(nn.Module):
    """x ↦ V·x. V [n, in] is a buffer, so that nothing trains it, whatever is switched to train."""

    weight: Tensor

    def __init__(self, rank: int, inputs: int, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", like.new_zeros(rank, inputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., n] of inputs [..., in]."""
        return linear(inputs, self.weight)


class CoreColumns(nn.Module):
    """z ↦ U·R·z, with U [out, n] frozen and R [n, n] trained; zero at first."""

    left: Tensor

    def __init__(self, rank: int, outputs: int, like: Tensor) -> None:
        super().__init__()
        self.core = nn.Parameter(like.new_zeros(rank, rank))
        self.register_buffer("left", like.new_zeros(outputs, rank), persistent=False)

    @property
    def weight(self) -> Tensor:
        """U·R [out, n], what LoRA's B would be."""
        return self.left @ self.core

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., out] of [..., n]. R comes first: its gradient then takes n² multiplications a token, not n·out."""
        return linear(linear(hidden, self.core), self.left)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        weight = self.weight
        destination[f"{prefix}weight"] = weight if keep_vars else weight.detach()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        weight = state_dict.get(f"{prefix}weight")
        if weight is None:
            missing_keys.append(f"{prefix}weight")
        elif weight.shape != (len(self.left), self.left.shape[1]):
            error_msgs.append(f"size mismatch for {prefix}weight: {list(weight.shape)}, here {list(self.left.shape)}")
        else:
            self._load(weight.to(self.left), prefix, error_msgs)

    @torch.no_grad()
    def _load(self, weight: Tensor, prefix: str, error_msgs: list[str]) -> None:
        core = self.left.mT @ weight
        if not bool((weight - self.left @ core).norm() <= OUTSIDE * weight.norm()):
            error_msgs.append(f"{prefix}weight does not lie in the subspace of the core that it is loaded into")
        else:
            self.core.copy_(core)


class Core(LowRankForm):
    """What ``core`` attaches."""

    @classmethod
    def parameters_of(cls, entry: Entry) -> int:
        return entry.size * entry.size

    @classmethod
    def factors(cls, entry: Entry, like: Tensor) -> tuple[nn.Module, nn.Module]:
        shape = entry.shape
        return (
            FrozenRows(entry.size, shape["in_features"], like),
            CoreColumns(entry.size, shape["out_features"], like),
        )

    @classmethod
    @torch.no_grad()
    def place(cls, a: nn.Module, b: nn.Module, left: Tensor, right: Tensor) -> None:
        assert isinstance(a, FrozenRows)
        assert isinstance(b, CoreColumns)
        a.weight, b.left = right.to(b.core).contiguous(), left.mT.to(b.core).contiguous()
        b.core.zero_()

    @classmethod
    def subspace(cls, a: nn.Module, b: nn.Module) -> tuple[Tensor, Tensor]:
        assert isinstance(a, FrozenRows)
        assert isinstance(b, CoreColumns)
        return b.left.mT, a.weight

    @classmethod
    def trained(cls, b: nn.Module) -> nn.Parameter:
        assert isinstance(b, CoreColumns)
        return b.core
