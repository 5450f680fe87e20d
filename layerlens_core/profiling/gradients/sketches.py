"""Sketched squared norms of gradients: unbiased, with an error that is estimated from the same sketch.

For sample i's gradient gᵢ = bᵢᵀ aᵢ [out, in] and a matrix Ω [in, k] of independent random signs, E ‖gᵢ ω‖² = ‖gᵢ‖² for
every column ω, since E ωωᵀ = I. So the mean over columns is an unbiased estimate of ‖gᵢ‖², and likewise of ‖Σ gᵢ‖² over
a group, and how far the columns disagree tells its variance (Hutchinson's estimator of tr gᵢᵀgᵢ; its variance is 2
Σ_{p≠q} (gᵢᵀgᵢ)²_pq for a column). Of all independent entries signs give the least variance, and they are exact in every
dtype.

The projected inputs aᵢΩ [T, k] are kept for the backward pass in place of the inputs [T, in], which a frozen linear
module does not need for anything else. So neither arithmetic nor memory grows with T², or with in times out.

Every group has an Ω of its own, drawn from the seed and the group's number. So the estimate converges as groups are
added, does not depend on how they were batched, and is the same again in another process and on another device. All
modules of one input width share it within a group.
"""

import hashlib
from collections.abc import Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.gradients.gram import by_group, product
from layerlens_core.profiling.gradients.routes import by_triton
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs

#: Columns of Ω; the error falls with the square root of their number.
COLUMNS = 32


@frozen(kw_only=True)
class Sketched:
    """Estimates in float64 on the device, and the variance of each that comes from Ω alone.

    sample_squared_norms: ‖gᵢ‖² [..., samples].
    variances: of Σ‖gᵢ‖² over every group [..., groups].
    group_sum_squared_norms: ‖Σ gᵢ‖² [..., groups].
    group_variances: of ‖Σ gᵢ‖² [..., groups].
    """

    sample_squared_norms: Tensor
    variances: Tensor
    group_sum_squared_norms: Tensor
    group_variances: Tensor

    @classmethod
    def of(cls, of_samples: Tensor, of_groups: Tensor) -> "Sketched":
        """From what `column_squares` gave, for one module or, stacked, for several.

        of_samples: ‖gᵢω‖² for every column ω [..., samples, k].
        of_groups: ‖Σ gᵢω‖² for every column ω [..., groups, k].
        """
        columns = of_samples.shape[-1]
        over_groups = of_samples.view(*of_groups.shape[:-1], -1, columns).sum(dim=-2)
        return cls(
            sample_squared_norms=of_samples.mean(dim=-1),
            variances=over_groups.var(dim=-1) / columns,
            group_sum_squared_norms=of_groups.mean(dim=-1),
            group_variances=of_groups.var(dim=-1) / columns,
        )


@define(kw_only=True, eq=False)
class Projector:
    """Projects inputs, each once, however many modules share it.

    columns: k, at least 2.
    seed: draws Ω, with a group's number and the width.
    """

    columns: int = COLUMNS
    seed: int = 0
    _groups: tuple[int, ...] = ()
    _drawn: dict[tuple[int, torch.device, torch.dtype], Tensor] = field(factory=dict)
    _shared: SharedInputs[Tensor] = field(factory=SharedInputs)

    def begin_forward(self, groups: Sequence[int]) -> None:
        """A forward pass begins, over samples of these groups: whole ones, or a part of a single one."""
        if self._groups != tuple(groups):
            self._groups = tuple(groups)
            self._drawn.clear()

    def forget(self) -> None:
        """The pass is over."""
        self._shared.forget()

    def project(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """aᵢΩ [samples, T, k], in the dtype of the inputs.

        inputs: as they came, by which shared ones are recognised.
        rows: the inputs as [samples, T, in].
        """
        found = self._shared.find(inputs)
        return found if found is not None else self._shared.remember(inputs, self._projected(rows.detach()))

    def _projected(self, rows: Tensor) -> Tensor:
        narrow = rows.dtype
        if not rows.is_cuda:  # a CPU multiplies 16-bit operands without a sum in float32
            rows = rows.to(torch.promote_types(narrow, torch.float32))
        rows_by_group = rows.reshape(len(self._groups), -1, rows.shape[-1])
        return torch.bmm(rows_by_group, self._signs(rows)).to(narrow).view(*rows.shape[:2], self.columns)

    def _signs(self, like: Tensor) -> Tensor:
        """Ω of every group [groups, in, k]."""
        key = (like.shape[-1], like.device, like.dtype)
        if key not in self._drawn:
            signs = [
                random_signs(self._key(group, key[0]), key[0], self.columns, like.device) for group in self._groups
            ]
            self._drawn[key] = torch.stack(signs).to(like.dtype)
        return self._drawn[key]

    def _key(self, group: int, width: int) -> int:
        digest = hashlib.sha256(f"{self.seed}/signs/{group}/{width}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def random_signs(key: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Signs [rows, columns] as int8, the same on every device: bits of SplitMix64 (Steele, Lea and Flood, 2014).

    Computed where they are needed, so that nothing is drawn on the CPU while a GPU waits.
    """
    words = -(-columns // 64)
    state = torch.arange(1, rows * words + 1, device=device) * _signed(0x9E3779B97F4A7C15) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    state = state ^ _shifted(state, 31)
    bits = state.view(rows, words, 1) >> torch.arange(64, device=device) & 1
    return (bits.to(torch.int8) * 2 - 1).flatten(1)[:, :columns]


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _shifted(state: Tensor, shift: int) -> Tensor:
    """Shifted to the right as an unsigned number."""
    return state >> shift & ((1 << (64 - shift)) - 1)


def column_squares(projected: Tensor, gradients: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Squared norms of the columns of gᵢΩ [samples, k], and of those of Σ gᵢΩ over groups [groups, k], float64.

    projected: aᵢΩ [samples, T, k], of whole groups.
    gradients: of the outputs, bᵢ [samples, T, out].
    group_size: samples in a group.
    """
    if by_triton(projected, gradients):
        from layerlens_core.profiling.gradients import triton

        return triton.column_squares(projected, gradients, group_size)
    if not gradients.is_cuda:
        wide = torch.promote_types(gradients.dtype, torch.float32)
        projected, gradients = projected.to(wide), gradients.to(wide)
    columns = product(projected.mT, gradients)
    of_groups = by_group(columns, group_size).sum(dim=1)
    return columns.square().sum(dim=-1).double(), of_groups.square().sum(dim=-1).double()
