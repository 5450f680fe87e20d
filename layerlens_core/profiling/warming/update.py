"""Singular vectors of what a low-rank adapter adds to a weight, without ever forming it."""

import torch
from torch import Tensor

from layerlens_core.files.directions import Pair
from layerlens_core.profiling.gradients.range_finder import signed


def vectors_of_update(a: Tensor, b: Tensor) -> Pair:
    """Left and right singular vectors of B A [out, in], in descending order of singular values.

    With B = Q_B R_B and Aᵀ = Q_A R_A, B A = Q_B (R_B R_Aᵀ) Q_Aᵀ, and the matrix in the middle is [rank, rank]. A scale
    changes no vector. Signs are such that each right vector's largest entry is positive.

    a: [rank, in].
    b: [out, rank].
    """
    basis_b, triangle_b = torch.linalg.qr(b.detach().double())
    basis_a, triangle_a = torch.linalg.qr(a.detach().double().T)
    columns, _, rows = torch.linalg.svd(triangle_b @ triangle_a.T, full_matrices=False)
    left, right = signed(columns.T @ basis_b.T, rows @ basis_a.T)
    return Pair(left=left.float().cpu().numpy(), right=right.float().cpu().numpy())
