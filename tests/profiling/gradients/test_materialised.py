"""Gradients that are formed."""

import pytest
import torch

from layerlens_core.profiling.gradients import gram as rows
from layerlens_core.profiling.gradients import materialised as forming
from layerlens_native import gradient_sums


def test_nothing_is_added_to_a_total_where_memory_runs_out(monkeypatch):
    """Work that failed is done again; a sample must not be in the sum twice."""
    monkeypatch.setitem(forming.HELD, "cpu", 1)
    monkeypatch.setattr(forming, "ROWS", 1)
    monkeypatch.setattr(gradient_sums, "IMPLEMENTATION", "pure")
    products = []

    def scarce(left, right, out=None):
        products.append(left)
        if len(products) == 3:
            raise torch.OutOfMemoryError
        return rows.product(left, right, out)

    monkeypatch.setattr(forming, "product", scarce)
    total = torch.zeros(3, 5)
    with pytest.raises(torch.OutOfMemoryError):
        forming.materialised(
            torch.ones(4, 2, 5), torch.ones(4, 2, 3), group_size=2, singly=True, grouped=True, total=total
        )
    assert not total.any()
