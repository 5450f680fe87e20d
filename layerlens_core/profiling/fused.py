"""Inner products of gradients from tiles of Gram matrices, and sums over gradients that are never written (Triton).

For 16-bit operands on a CUDA device. Tiles are accumulated in float32 by the matrix units. Only one half of a symmetric
Gram matrix is computed. The tiles of the inputs are kept, since several modules share them; those of the output
gradients are multiplied with them and summed where they arise, and each leaves one number. Likewise a tile of a
group's gradient leaves its Σ(·)² and Σ|W ⊙ ·| and is gone, so that nothing of [out, in] is written.

Beside batched matmuls this halves the arithmetic of ‖gᵢ‖² and takes a third off that of a pair's, and no Gram
matrix of output gradients goes through memory (docs/benchmarks.md).
"""

from functools import lru_cache

import torch
import triton
from attrs import frozen
from torch import Tensor

from layerlens_core.profiling import kernels

#: Programs that keep a large GPU busy; below it tiles are smaller, so that there are more of them.
ENOUGH = 264


@frozen(eq=False)
class Tiling:
    """Which tiles of the Gram matrices of a unit of samples there are, and what each counts for.

    table: [tiles, 4], int32: the two samples, and the first token of each in the tile. shares: [tiles, samples + 1],
    float64: how often a tile's sum is in ‖gᵢ‖² of every sample, and last in ‖Σ gᵢ‖². samples: of a unit.
    """

    samples: int
    tokens: int
    block: int
    table: Tensor
    shares: Tensor

    @classmethod
    def of(cls, samples: int, tokens: int, units: int, device: torch.device) -> "Tiling":
        """The tiling for units of so many samples, all on one device."""
        blocks = -(-tokens // 128)
        tiles = samples * blocks * (blocks + 1) // 2 + samples * (samples - 1) // 2 * blocks**2
        return _tiling(samples, tokens, 128 if tiles * units >= ENOUGH else 64, device)


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
    # Neighbours in time share rows, so that these are still in the cache: squares of eight by eight tiles.
    span = 8 * block
    near = sorted(range(len(order)), key=lambda k: (*order[k][:2], order[k][2] // span, order[k][3] // span, k))
    table = torch.tensor([order[k] for k in near], dtype=torch.int32, device=device)
    return Tiling(
        samples, tokens, block, table, torch.tensor([shares[k] for k in near], dtype=torch.float64, device=device)
    )


def gram_tiles(rows: Tensor, tiling: Tiling) -> Tensor:
    """Tiles [units, tiles, block, block] in float32 of rows [units · samples, tokens, features]."""
    units = len(rows) // tiling.samples
    tiles = torch.empty(
        units, len(tiling.table), tiling.block, tiling.block, dtype=torch.float32, device=rows.device
    )  # fmt: skip
    _launch(rows, tiles, tiles, tiling, fused=False)
    return tiles


def inner_products(tiles: Tensor, gradients: Tensor, tiling: Tiling) -> Tensor:
    """What every tile adds up to [units, tiles], float32, of which `totals` makes norms.

    tiles: of the inputs. gradients: of the outputs, [units · samples, tokens, features].
    """
    found = torch.empty(tiles.shape[:2], dtype=torch.float32, device=tiles.device)
    _launch(gradients, tiles, found, tiling, fused=True)
    return found


def totals(found: Tensor, tiling: Tiling) -> tuple[Tensor, Tensor]:
    """‖gᵢ‖² [..., units · samples] and ‖Σ gᵢ‖² of every unit [..., units], float64.

    found: [..., units, tiles], of one module or, stacked, of several: one small matmul for all of them.
    """
    together = found.double() @ tiling.shares
    return together[..., : tiling.samples].flatten(-2), together[..., tiling.samples]


def _launch(rows: Tensor, tiles: Tensor, found: Tensor, tiling: Tiling, *, fused: bool) -> None:
    rows = rows.contiguous()
    features = rows.shape[-1]
    units, count = tiles.shape[:2]
    # Measured on an H200: long steps where there are few programs, and two programs a processor where nothing is fused.
    few = tiling.block == 64 and count * units <= 200
    step = 128 if few else 64
    stages = 3 if (few and count * units > 132) or (tiling.block == 128 and not fused) else 4
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        kernels.gram_kernel[(count, units)](
            rows, tiles, found, tiling.table, tiling.tokens, features, tiling.samples * tiling.tokens, count,
            FUSED=fused, BLOCK=tiling.block, STEP=step, EVEN=features % step == 0,
            num_warps=8 if tiling.block == 128 else 4, num_stages=stages,
        )  # fmt: skip


def sums(inputs: Tensor, gradients: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """‖G‖² and Σ|W ⊙ G| of every unit [units], float64, of G = gradientsᵀ inputs, which is not written.

    inputs: [units, tokens, in]. gradients: [units, tokens, out]. weight: W [out, in], in any layout, or None.
    """
    inputs, gradients = inputs.contiguous(), gradients.contiguous()
    units, tokens, width = inputs.shape
    height = gradients.shape[-1]
    count = -(-height // 128) * -(-width // 256)
    found = torch.empty(units, count, 2, dtype=torch.float32, device=inputs.device)
    with torch.cuda.device_of(inputs):  # type: ignore[no-untyped-call]
        kernels.sums_kernel[(count, units)](
            inputs, gradients, inputs if weight is None else weight, found, tokens, width, height,
            *((0, 0) if weight is None else weight.stride()),
            WEIGHTED=weight is not None, OUT=128, IN=256, STEP=32, num_warps=8, num_stages=4,
        )  # fmt: skip
    together = found.sum(dim=1, dtype=torch.float64)
    return together[:, 0], None if weight is None else together[:, 1]


def group_sums(
    inputs: Tensor, gradients: Tensor, weight: Tensor | None, group: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """‖gᵢ‖² [samples], ‖Σ gᵢ‖² and Σ|W ⊙ Σ gᵢ| [groups], float64, at the arithmetic of the second alone.

    inputs: [samples, tokens, in], of whole groups. gradients: [samples, tokens, out]. weight: as for `sums`.
    """
    inputs, gradients = inputs.contiguous(), gradients.contiguous()
    samples, tokens, width = inputs.shape
    height = gradients.shape[-1]
    # Two tiles lie in registers at once, so that they are half as large as those of `sums`.
    count = -(-height // 128) * -(-width // 128)
    singly = torch.empty(samples, count, dtype=torch.float32, device=inputs.device)
    found = torch.empty(samples // group, count, 2, dtype=torch.float32, device=inputs.device)
    with torch.cuda.device_of(inputs):  # type: ignore[no-untyped-call]
        kernels.group_sums_kernel[(count, samples // group)](
            inputs, gradients, inputs if weight is None else weight, singly, found, tokens, width, height,
            *((0, 0) if weight is None else weight.stride()),
            GROUP=group, WEIGHTED=weight is not None, OUT=128, IN=128, STEP=32, num_warps=8, num_stages=4,
        )  # fmt: skip
    together = found.sum(dim=1, dtype=torch.float64)
    norms = singly.sum(dim=1, dtype=torch.float64)
    return norms, together[:, 0], None if weight is None else together[:, 1]


def column_squares(projected: Tensor, gradients: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Squared norms in float64 of the columns of gᵢΩ [samples, k], and of their sums over groups [groups, k].

    projected: aᵢΩ [samples, tokens, k]. gradients: bᵢ [samples, tokens, out].
    """
    projected, gradients = projected.contiguous(), gradients.contiguous()
    samples, tokens, columns = projected.shape
    features = gradients.shape[-1]
    padded, wide = max(16, triton.next_power_of_2(columns)), 128
    count = -(-features // wide)
    singly, together = (
        torch.empty(rows, count, padded, dtype=torch.float32, device=gradients.device)
        for rows in (samples, samples // group)
    )
    with torch.cuda.device_of(gradients):  # type: ignore[no-untyped-call]
        kernels.columns_kernel[(count, samples // group)](
            projected, gradients, singly, together, tokens, features, columns,
            GROUP=group, COLUMNS=padded, WIDE=wide, STEP=64, num_warps=4, num_stages=4,
        )  # fmt: skip
    return tuple(part.sum(dim=1, dtype=torch.float64)[:, :columns] for part in (singly, together))  # type: ignore[return-value]
