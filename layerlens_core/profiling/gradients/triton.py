"""Inner products of gradients from tiles of Gram matrices, and sums over gradients that are never written (Triton).

For 16-bit operands on a CUDA device. Tiles are accumulated in float32 by the matrix units. Only one half of a symmetric
Gram matrix is computed. The tiles of the inputs are kept, since several modules share them; those of the output
gradients are multiplied with them and summed where they arise, so that of each tile one number is left. Likewise a tile
of a group's gradient is reduced to its Σ(·)² and Σ|W ⊙ ·| where it arises, so that nothing of [out, in] is written.

Compared with batched matmuls this halves the arithmetic of ‖gᵢ‖² and takes a third off that of a pair's, and no Gram
matrix of output gradients goes through memory (docs/benchmarks.md).
"""

from functools import lru_cache

import torch
import triton
from attrs import frozen
from torch import Tensor

from layerlens_core.profiling.gradients import triton_kernels as kernels

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # Triton before 3.3
    TensorDescriptor = None

#: Programs that keep a large GPU busy; where there are fewer, tiles of Gram matrices are made smaller and so more.
ENOUGH = 72
#: A product over at most this many tokens is over too soon to hide what comes before and after it.
SHORT = 256


@frozen(eq=False)
class Tiling:
    """The tiles of the Gram matrices of a group of samples, and what each counts for.

    samples: of a group, or 1 where samples are taken singly.
    tokens: of a sample.
    block: tokens that a tile is wide and high.
    table: [tiles, 4], int32: the two samples, and the first token of each in the tile.
    shares: [tiles, samples + 1], float64: how often a tile's sum is in ‖gᵢ‖² of every sample, and last in ‖Σ gᵢ‖².
    """

    samples: int
    tokens: int
    block: int
    table: Tensor
    shares: Tensor

    @classmethod
    def of(cls, samples: int, tokens: int, groups: int, device: torch.device) -> "Tiling":
        """The tiling for groups of equal size, on one device.

        samples: in a group.
        tokens: of a sample.
        groups: how many.
        device: that holds the samples.
        """
        blocks = -(-tokens // 128)
        tiles = samples * blocks * (blocks + 1) // 2 + samples * (samples - 1) // 2 * blocks**2
        return _tiling(samples, tokens, 128 if tiles * groups >= ENOUGH else 64, device)


@lru_cache(maxsize=64)
def _tiling(samples: int, tokens: int, block: int, device: torch.device) -> Tiling:
    blocks = -(-tokens // block)
    order, shares = [], []
    for i in range(samples):
        for j in range(i, samples):
            for a in range(blocks):
                for b in range(a if i == j else 0, blocks):
                    order.append((i, j, a * block, b * block))
                    often = 1.0 if i == j and a == b else 2.0
                    shares.append([often if i == j == sample else 0.0 for sample in range(samples)] + [often])
    # In squares of eight by eight tiles: tiles that follow each other share rows, which are then still in the cache.
    span = 8 * block
    near = sorted(range(len(order)), key=lambda k: (*order[k][:2], order[k][2] // span, order[k][3] // span, k))
    table = torch.tensor([order[k] for k in near], dtype=torch.int32, device=device)
    return Tiling(
        samples, tokens, block, table, torch.tensor([shares[k] for k in near], dtype=torch.float64, device=device)
    )


def gram_tiles(rows: Tensor, tiling: Tiling) -> Tensor:
    """Tiles [groups, tiles, block, block] in float32.

    rows: [groups · samples, tokens, features].
    tiling: which tiles to compute.
    """
    groups = len(rows) // tiling.samples
    tiles = torch.empty(
        groups, len(tiling.table), tiling.block, tiling.block, dtype=torch.float32, device=rows.device
    )  # fmt: skip
    _launch(rows, tiles, tiles, tiling, fused=False)
    return tiles


def inner_products(tiles: Tensor, gradients: Tensor, tiling: Tiling) -> Tensor:
    """The sum of every tile [groups, tiles], float32, of which `totals` makes squared norms.

    tiles: of the inputs.
    gradients: of the outputs, [groups · samples, tokens, features].
    tiling: which tiles there are.
    """
    found = torch.empty(tiles.shape[:2], dtype=torch.float32, device=tiles.device)
    _launch(gradients, tiles, found, tiling, fused=True)
    return found


def totals(found: Tensor, tiling: Tiling) -> tuple[Tensor, Tensor]:
    """‖gᵢ‖² [..., groups · samples] and ‖Σ gᵢ‖² of every group [..., groups], float64.

    found: [..., groups, tiles], of one module or, stacked, of several: one small matmul for all of them.
    tiling: which tiles there are.
    """
    squared_norms = found.double() @ tiling.shares
    return squared_norms[..., : tiling.samples].flatten(-2), squared_norms[..., tiling.samples]


def _launch(rows: Tensor, tiles: Tensor, found: Tensor, tiling: Tiling, *, fused: bool) -> None:
    rows = rows.contiguous()
    groups, count = tiles.shape[:2]
    block, step = tiling.block, 64 if tiling.block == 128 else 128
    tma = _by_tma(rows)
    blocks = TensorDescriptor.from_tensor(rows, [1, block, step]) if tma else rows
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        # So that two programs fit on a processor (measured on an H200).
        kernels.gram_kernel[(count, groups)](
            blocks, tiles, found, tiling.table, tiling.tokens, rows.shape[-1], tiling.samples, count,
            FUSED=fused, BLOCK=block, STEP=step, TMA=tma,
            num_warps=4 if tma or block == 64 else 8, num_stages=4 if tma or block == 128 else 3,
        )  # fmt: skip


def sums(
    inputs: Tensor, gradients: Tensor, weight: Tensor | None, group_size: int = 1
) -> tuple[Tensor, Tensor, Tensor | None]:
    """‖gᵢ‖² [samples], ‖Σ gᵢ‖² and Σ|W ⊙ Σ gᵢ| [groups], float64, at the arithmetic of the second alone.

    No gradient is written.

    inputs: [samples, tokens, in], of whole groups.
    gradients: of the outputs, [samples, tokens, out].
    weight: W [out, in], in any layout, or None.
    group_size: samples in a group.
    """
    inputs, gradients = inputs.contiguous(), gradients.contiguous()
    samples, tokens, width = inputs.shape
    height = gradients.shape[-1]
    tma = _by_tma(inputs) and _by_tma(gradients)
    # Where products are short, two programs share a processor: one reads W while the other multiplies (on an H200).
    short = group_size == 1 and tokens <= SHORT
    tall, wide, step = 128, 128 if short else 256, 64 if tma else 32
    x, d = inputs, gradients
    if tma:
        x, d = (TensorDescriptor.from_tensor(x, [1, step, wide]), TensorDescriptor.from_tensor(d, [1, step, tall]))
    groups, tiles = samples // group_size, -(-height // tall) * -(-width // wide)
    singly, found = (
        torch.empty(*shape, dtype=torch.float32, device=inputs.device)
        for shape in ((samples, tiles), (groups, tiles, 2))
    )
    with torch.cuda.device_of(inputs):  # type: ignore[no-untyped-call]
        kernels.sums_kernel[(groups * tiles,)](
            x, d, inputs if weight is None else weight, singly, found, groups, tokens, width, height,
            *((0, 0) if weight is None else weight.stride()),
            GROUP=group_size, WEIGHTED=weight is not None, OUT=tall, IN=wide, STEP=step, TMA=tma,
            num_warps=4 if short else 8, num_stages=3 if tma else 4,
        )  # fmt: skip
    of_groups = found.sum(dim=1, dtype=torch.float64)
    of_samples = of_groups[:, 0] if group_size == 1 else singly.sum(dim=1, dtype=torch.float64)
    return of_samples, of_groups[:, 0], None if weight is None else of_groups[:, 1]


def _by_tma(rows: Tensor) -> bool:
    """Whether the device fetches blocks of [samples, tokens, features] by itself (Hopper's TMA)."""
    aligned = rows.data_ptr() % 16 == 0 and rows.shape[-1] * rows.element_size() % 16 == 0
    return TensorDescriptor is not None and aligned and _has_tma(rows.device)


@lru_cache
def _has_tma(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (9, 0)


def column_squares(projected: Tensor, gradients: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Squared norms in float64 of the columns of gᵢΩ [samples, k], and of their sums over groups [groups, k].

    projected: aᵢΩ [samples, tokens, k].
    gradients: of the outputs, bᵢ [samples, tokens, out].
    group_size: samples in a group.
    """
    projected, gradients = projected.contiguous(), gradients.contiguous()
    samples, tokens, columns = projected.shape
    features = gradients.shape[-1]
    padded, wide = max(16, triton.next_power_of_2(columns)), 128
    count = -(-features // wide)
    singly, grouped = (
        torch.empty(rows, count, padded, dtype=torch.float32, device=gradients.device)
        for rows in (samples, samples // group_size)
    )
    with torch.cuda.device_of(gradients):  # type: ignore[no-untyped-call]
        kernels.columns_kernel[(count, samples // group_size)](
            projected, gradients, singly, grouped, tokens, features, columns,
            GROUP=group_size, COLUMNS=padded, WIDE=wide, STEP=64, num_warps=4, num_stages=4,
        )  # fmt: skip
    return tuple(part.sum(dim=1, dtype=torch.float64)[:, :columns] for part in (singly, grouped))  # type: ignore[return-value]
