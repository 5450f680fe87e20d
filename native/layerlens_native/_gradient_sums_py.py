"""Sums over gradients by torch's operations: the twin of ``_gradient_sums``, which also serves on other devices."""

import torch
from torch import Tensor


def inner(left: Tensor, right: Tensor, once: int) -> Tensor:
    """See `layerlens_native.gradient_sums.inner`. Rows are summed in their own precision."""
    rows = left.mul_(right).sum(dim=-1)
    rows[:, once:] *= 2
    found: Tensor = rows.sum(dim=-1, dtype=torch.float64)
    return found


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
    """See `layerlens_native.gradient_sums.accumulate`."""
    if singles is not None:
        singles += squared_norms(gradients)
    if squares is None and total is None and weighted is None:
        return
    sums = gradients if group == 1 else gradients.view(-1, group, *gradients.shape[1:]).sum(dim=1)
    if squares is not None:
        squares += squared_norms(sums)
    if total is not None:
        total += sums.sum(dim=0)
    if weighted is not None:
        assert weight is not None
        products = sums.mul_(weight.to(sums.dtype))
        weighted += torch.linalg.vector_norm(products, ord=1, dim=-1).sum(dim=-1, dtype=torch.float64)


def squared_norms(matrices: Tensor) -> Tensor:
    """Squared Frobenius norms [...] in float64.

    Norms of rows are computed in the matrices' own precision and in one pass over memory, and their squares are added
    in float64: one float32 sum over a large matrix loses three digits.

    matrices: [..., out, in].
    """
    rows: Tensor = torch.linalg.vector_norm(matrices, dim=-1)
    return rows.double().square().sum(dim=-1)
