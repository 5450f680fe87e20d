"""A module's inputs or output gradients, by sample, with their Gram matrices, which modules of one input share."""

from typing import TYPE_CHECKING

import torch
from attrs import define, field
from torch import Tensor

if TYPE_CHECKING:
    from layerlens_core.profiling.gradients.triton import Tiling

#: Dtypes whose products are summed in float32.
NARROW = (torch.bfloat16, torch.float16)
#: Width in tokens of a strip of a symmetric Gram matrix: narrow strips save the most work, wide ones take fewer calls.
STRIP = {"cpu": 96, "cuda": 512}


@define(eq=False)
class Rows:
    """Inputs or output gradients of consecutive whole groups, and their Gram matrices.

    Modules that share an input share its `Rows`, and so its Gram matrices, which are computed once where they are kept.

    rows: [samples, T, features].
    """

    rows: Tensor
    _grams: dict[tuple[int, int], Tensor] = field(factory=dict)
    _strips: dict[int, Tensor] = field(factory=dict)
    _tiles: "dict[Tiling, Tensor]" = field(factory=dict)
    _wide: Tensor | None = None

    @property
    def wide(self) -> Tensor:
        """The rows, at least in float32."""
        if self._wide is None:
            self._wide = self.rows.to(torch.promote_types(self.rows.dtype, torch.float32))
        return self._wide

    @property
    def factor(self) -> Tensor:
        """The rows as `product` takes them: unchanged where the device multiplies such dtypes, else widened."""
        return self.rows if self.rows.is_cuda and self.rows.dtype in NARROW else self.wide

    @property
    def strips(self) -> range:
        """The first token of every strip into which a sample's Gram matrix is cut."""
        return range(0, self.rows.shape[1], strip_width(self.rows.device.type))

    def strip(self, first: int, *, keep: bool) -> Tensor:
        """One strip of every sample's Gram matrix [samples, T − first, width]: tokens from ``first`` on by the strip's.

        Its upper square lies on the diagonal. What is below the square stands also for its mirror image, to the right
        of the square. Tall strips are multiplied faster than wide ones.

        first: the strip's first token.
        keep: remember the strip for the next module.
        """
        if first in self._strips:
            return self._strips[first]
        rows = self.factor[:, first:]
        found = product(rows, rows[:, : self.strips.step].mT)
        if keep:
            self._strips[first] = found
        return found

    def gram(self, group_size: int, apart: int, *, keep: bool) -> Tensor:
        """Gram matrices [groups · (group_size − apart), T, T] of samples i and i + apart of every group.

        group_size: samples in a group.
        apart: how far the two samples are apart.
        keep: remember the matrices for the next module.
        """
        if (group_size, apart) in self._grams:
            return self._grams[group_size, apart]
        grouped = by_group(self.factor, group_size)
        left, right = grouped[:, : group_size - apart], grouped[:, apart:]
        found = product(left.flatten(0, 1), right.flatten(0, 1).mT)
        if keep:
            self._grams[group_size, apart] = found
        return found

    def tiles(self, tiling: "Tiling") -> Tensor:
        """Tiles of the Gram matrices (`layerlens_core.profiling.gradients.triton.gram_tiles`)."""
        from layerlens_core.profiling.gradients.triton import gram_tiles

        if tiling not in self._tiles:
            self._tiles[tiling] = gram_tiles(self.rows, tiling)
        return self._tiles[tiling]


def strip_width(device: str) -> int:
    """Width in tokens of a strip, on a type of device."""
    return STRIP.get(device, STRIP["cuda"])


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Product of matrices, or of batches of them; of 16-bit matrices (on a CUDA device) the product is in float32.

    left: the first factor.
    right: the second factor.
    out: where the product of wider matrices goes.
    """
    multiply = torch.bmm if left.dim() == 3 else torch.mm
    return multiply(left, right, out_dtype=torch.float32) if left.dtype in NARROW else multiply(left, right, out=out)


def by_group(tensor: Tensor, group_size: int) -> Tensor:
    """A tensor [samples, …] as [groups, group_size, …].

    tensor: of whole groups.
    group_size: samples in a group.
    """
    return tensor.view(-1, group_size, *tensor.shape[1:])
