"""Singular values and vectors of what a low-rank adapter adds to a weight, without ever forming it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerlens_core.files.directions import Pair
from layerlens_core.profiling.gradients.range_finder import signed


class Update(NamedTuple):
    """An update's singular value decomposition, the largest values first.

    vectors: left ones [rank, out] and right ones [rank, in], as rows.
    values: [rank].
    """

    vectors: Pair
    values: NDArray[np.float32]


def decomposed(a: Tensor, b: Tensor) -> Update:
    """The singular value decomposition of B A [out, in].

    With B = Q_B R_B and Aᵀ = Q_A R_A, B A = Q_B (R_B R_Aᵀ) Q_Aᵀ, and the matrix in the middle is [rank, rank]. A scale
    changes no vector. Signs are such that each right vector's largest entry is positive.

    a: [rank, in].
    b: [out, rank].
    """
    basis_b, triangle_b = torch.linalg.qr(b.detach().double())
    basis_a, triangle_a = torch.linalg.qr(a.detach().double().T)
    columns, values, rows = torch.linalg.svd(triangle_b @ triangle_a.T, full_matrices=False)
    left, right = signed(columns.T @ basis_b.T, rows @ basis_a.T)
    vectors = Pair(left=left.float().cpu().numpy(), right=right.float().cpu().numpy())
    return Update(vectors, values.float().cpu().numpy())
