"""Singular values and vectors of an update, against those of the dense matrix."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.files.directions import are_orthonormal
from layerlens_core.profiling.warming.update import decomposed


@given(
    rank=st.integers(1, 8), inputs=st.integers(8, 20), outputs=st.integers(8, 20), seed=st.integers(0, 99),
    real=st.integers(0, 8),
)  # fmt: skip
def test_they_are_those_of_the_dense_update(rank: int, inputs: int, outputs: int, seed: int, real: int) -> None:
    """Also where B has fewer directions than its rank, and none at all: the rows are orthonormal all the same."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, inputs, generator=generator)
    b = torch.randn(outputs, rank, generator=generator)
    b[:, real:] = 0
    (left, right), strengths = decomposed(a, b)
    assert (left.shape, right.shape) == ((rank, outputs), (rank, inputs))
    assert left.dtype == right.dtype == np.float32
    assert are_orthonormal(left)
    assert are_orthonormal(right)
    dense = (b.double() @ a.double()).numpy()
    values = np.linalg.svd(dense, compute_uv=False)[:rank]
    assert np.abs(strengths - values).max() <= 1e-5 * max(values[0], 1e-30)
    between = left.astype(np.float64) @ dense @ right.astype(np.float64).T
    assert np.abs(between - np.diag(values)).max() <= 1e-5 * max(values[0], 1e-30)
    assert np.linalg.norm(left.T @ between @ right - dense) <= 1e-4 * max(np.linalg.norm(dense), 1e-30)
    assert (right[np.arange(rank), np.abs(right).argmax(axis=1)] > 0).all()
