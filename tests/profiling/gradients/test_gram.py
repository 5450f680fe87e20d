"""Gram matrices by strips."""

import torch

from layerlens_core.profiling.gradients import gram as rows
from layerlens_core.profiling.gradients.gram import Rows


def test_half_of_a_symmetric_gram_matrix_is_computed(monkeypatch):
    monkeypatch.setitem(rows.STRIP, "cpu", 2)
    kept = Rows(torch.randn(3, 5, 7, dtype=torch.float64))
    whole = kept.gram(1, 0, keep=False)
    strips = {first: kept.strip(first, keep=True) for first in kept.strips}
    assert {first: tuple(strip.shape) for first, strip in strips.items()} == {0: (3, 5, 2), 2: (3, 3, 2), 4: (3, 1, 1)}
    for first, strip in strips.items():
        assert torch.allclose(strip, whole[:, first:, first : first + 2])
        assert kept.strip(first, keep=False) is strip
