"""Sums over per-sample gradients in one pass over their memory, and inner products of samples.

``IMPLEMENTATION`` says which kernel serves: ``"native"``, or ``"pure"`` where the extension was not built or
``LAYERLENS_PURE=1`` asks for the twin. The twin also serves for tensors that the kernel does not take: on another
device, neither float32 nor float64, of a class of their own (whose entries may lie elsewhere), with gaps between the
entries of a row, or where torch uses many threads.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from layerlens_native._selector import select_kernel

_kernel, IMPLEMENTATION = select_kernel("gradient_sums")

#: The kernel runs on one thread, and is as fast as the twin is on about this many.
THREADS = 4


def serves(tensor: Tensor) -> bool:
    """Whether the native kernel serves for tensors of this dtype on this device."""
    known = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return IMPLEMENTATION == "native" and known and torch.get_num_threads() <= THREADS


def accumulate(
    gradients: Tensor,
    *,
    group: int = 1,
    weight: Tensor | None = None,
    total: Tensor | None = None,
    singles: Tensor | None = None,
    squares: Tensor | None = None,
    weighted: Tensor | None = None,
) -> None:
    """Add sums over gradients gᵢ to the tensors that are given.

    gradients: gᵢ [groups · group, rows, columns]; they may be overwritten.
    group: samples in a group.
    weight: W [rows, columns], for ``weighted``.
    total: Σ gᵢ over all samples [rows, columns], in the gradients' dtype.
    singles: ‖gᵢ‖² of every sample [groups · group], float64.
    squares: ‖Σ gᵢ‖² of every group [groups], float64.
    weighted: Σ |W ⊙ Σ gᵢ| of every group [groups], float64.

    Raises `ValueError` for shapes that do not fit, and for ``weighted`` without a weight.
    """
    _check(gradients, group, weight, total, singles, squares, weighted)
    rows = [part for part in (weight, total) if part is not None]
    if not (_fit(gradients, *rows) and _sums(gradients, singles, squares, weighted)):
        from layerlens_native import _gradient_sums_py

        _gradient_sums_py.accumulate(
            gradients, group=group, weight=weight, total=total, singles=singles, squares=squares, weighted=weighted
        )
        return
    samples, height, width = gradients.shape
    _kernel.sums(
        gradients.dtype == torch.float32, gradients.data_ptr(), gradients.stride(0), gradients.stride(1),
        samples // group, group, height, width, *_place(weight if weighted is not None else None), *_place(total),
        *(0 if part is None else part.data_ptr() for part in (singles, squares, weighted)),
    )  # fmt: skip


def inner(left: Tensor, right: Tensor, once: int | None = None) -> Tensor:
    """Inner products [samples] in float64.

    left: [samples, rows, columns]; it may be overwritten.
    right: of the same shape.
    once: how many rows count once; the rows after them count twice. None counts all once.

    Raises `ValueError` for shapes that differ.
    """
    if left.shape != right.shape or left.dim() != 3:
        raise ValueError(f"inner products need samples of one shape, but these are {_named(left)} and {_named(right)}")
    samples, rows, columns = left.shape
    once = rows if once is None else min(once, rows)
    if not (_fit(left, right) and left.stride(1) == right.stride(1) == columns):
        from layerlens_native import _gradient_sums_py

        return _gradient_sums_py.inner(left, right, once)
    found = torch.empty(samples, dtype=torch.float64)
    _kernel.inner(
        left.dtype == torch.float32, left.data_ptr(), left.stride(0), right.data_ptr(), right.stride(0),
        samples, rows * columns, once * columns, found.data_ptr(),
    )  # fmt: skip
    return found


def _fit(first: Tensor, *others: Tensor) -> bool:
    """Whether the kernel takes these tensors in one call."""
    return serves(first) and all(
        type(each) in (Tensor, Parameter)
        and each.layout is torch.strided
        and each.stride(-1) == 1
        and each.dtype == first.dtype
        and each.device == first.device
        for each in (first, *others)
    )


def _sums(gradients: Tensor, *sums: Tensor | None) -> bool:
    """Whether the kernel can add to these sums."""
    return all(
        part is None or (part.dtype == torch.float64 and part.device == gradients.device and part.is_contiguous())
        for part in sums
    )


def _place(matrix: Tensor | None) -> tuple[int, int]:
    return (0, 0) if matrix is None else (matrix.data_ptr(), matrix.stride(0))


def _named(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _check(
    gradients: Tensor, group: int, weight: Tensor | None, total: Tensor | None, singles: Tensor | None,
    squares: Tensor | None, weighted: Tensor | None,
) -> None:  # fmt: skip
    if gradients.dim() != 3 or group < 1 or len(gradients) % group:
        raise ValueError(f"gradients are [groups · {group}, rows, columns], but these are {_named(gradients)}")
    samples, *matrix = gradients.shape
    expected = (
        ("weight", weight, matrix), ("total", total, matrix), ("singles", singles, [samples]),
        ("squares", squares, [samples // group]), ("weighted", weighted, [samples // group]),
    )  # fmt: skip
    for name, part, shape in expected:
        if part is not None and list(part.shape) != shape:
            raise ValueError(f"{name} has to be {shape}, but is {list(part.shape)}")
    if weighted is not None and weight is None:
        raise ValueError("weighted sums need a weight")
