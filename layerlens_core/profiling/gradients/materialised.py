"""Gradients of samples or groups, formed some rows at a time; each part is summed while it is in the cache."""

import torch
from attrs import frozen
from torch import Tensor

from layerlens_core.profiling.gradients.gram import NARROW, by_group, product
from layerlens_native import gradient_sums

#: Entries of gradients that are held at once; more only where `ROWS` rows of one group have more.
HELD = {"cpu": 2**21, "cuda": 2**27}
#: The least rows of gradients that are formed at once: products of fewer are slow.
ROWS = 256


@frozen(kw_only=True)
class Found:
    """What was found of a module, float64 on the device; None for what was not wanted.

    sample_squared_norms: ‖gᵢ‖² [samples].
    group_sum_squared_norms: ‖Σ gᵢ‖² [groups].
    weighted_sums: Σ |W ⊙ Σ gᵢ| [groups].
    """

    sample_squared_norms: Tensor | None = None
    group_sum_squared_norms: Tensor | None = None
    weighted_sums: Tensor | None = None


def materialised(
    inputs: Tensor, gradients: Tensor, *, group_size: int, singly: bool, grouped: bool, weight: Tensor | None = None,
    total: Tensor | None = None,
) -> Found:  # fmt: skip
    """Sums over gradients gᵢ = bᵢᵀ aᵢ.

    inputs: aᵢ [samples, T, in].
    gradients: of the outputs, bᵢ [samples, T, out].
    group_size: samples in a group.
    singly: form each gᵢ, for ‖gᵢ‖²; without, only Σ gᵢ of each group is formed.
    grouped: ‖Σ gᵢ‖² is wanted.
    weight: W [out, in], for Σ |W ⊙ Σ gᵢ|.
    total: [out, in], to which Σ gᵢ over all samples is added; it is unchanged where memory runs out.
    """
    groups = len(inputs) // group_size

    def zeros(count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64, device=inputs.device)

    singles = zeros(len(inputs)) if singly else None
    squares = zeros(groups) if grouped else None
    weighted = None if weight is None else zeros(groups)
    if not singly:
        inputs, gradients = (by_group(part, group_size).flatten(1, 2) for part in (inputs, gradients))
        group_size = 1
    height, width = gradients.shape[2], inputs.shape[2]
    few, rows = _parts(groups, group_size, height, width, inputs.device.type)
    # All memory is taken before anything is added. The kernel needs none later; its twin does, so another total serves.
    whole, buffer = total, None
    if inputs.dtype not in NARROW:
        buffer = inputs.new_empty(few * group_size * rows * width)
    if gradient_sums.serves(inputs):
        weight = None if weight is None else weight.to(inputs.dtype).contiguous()
    elif total is not None:
        whole = torch.zeros_like(total)
    for begin in range(0, groups, few):
        end = min(begin + few, groups)
        members = slice(begin * group_size, end * group_size)
        x, d = inputs[members], gradients[members]
        for top in range(0, height, rows):
            some = slice(top, min(top + rows, height))
            shape = (len(x), some.stop - some.start, width)
            out = None if buffer is None else buffer[: shape[0] * shape[1] * width].view(shape)
            gradient_sums.accumulate(
                product(d[:, :, some].mT, x, out),
                group=group_size,
                weight=None if weight is None else weight[some],
                total=None if whole is None else whole[some],
                singles=None if singles is None else singles[members],
                squares=None if squares is None else squares[begin:end],
                weighted=None if weighted is None else weighted[begin:end],
            )
    if total is not None and whole is not None and whole is not total:
        total += whole
    return Found(sample_squared_norms=singles, group_sum_squared_norms=squares, weighted_sums=weighted)


def _parts(groups: int, group_size: int, height: int, width: int, device: str) -> tuple[int, int]:
    """Groups and rows of gradients to form at once."""
    held = HELD.get(device, HELD["cuda"])
    few = min(max(held // (group_size * width * min(height, ROWS)), 1), groups)
    rows = min(max(held // (few * group_size * width), ROWS), height)
    return few, -(-height // -(-height // rows))  # the same number of parts, of equal height
