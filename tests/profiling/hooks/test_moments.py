"""Moments do not depend on how rows came."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.profiling.hooks.moments import Moments


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 2**31))
def test_moments_do_not_depend_on_how_rows_came(counts, features, seed):
    draw = np.random.default_rng(seed)
    batches = [draw.normal(size=(count, features)) + 1e3 for count in counts]
    moments = Moments.nothing(features, torch.device("cpu"))
    for batch in batches:
        moments.add(torch.from_numpy(batch))
    table = np.concatenate(batches)
    assert moments.count == len(table)
    if len(table):
        centred = table - table.mean(axis=0)
        assert moments.mean.numpy() == pytest.approx(table.mean(axis=0))
        assert moments.scatter.numpy() == pytest.approx(centred.T @ centred, abs=1e-6)
