"""Noise that depends on the seed and the name alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.comparison.stacked.methods.noise import drawn, normal


@given(rank=st.integers(1, 20), more=st.integers(0, 30), features=st.integers(1, 70), seed=st.integers(0, 3))
def test_arms_of_one_seed_start_from_the_same_noise(rank, more, features, seed):
    rows = drawn("a", rank, features, seed)
    assert torch.equal(rows, drawn("a", rank + more, features, seed)[:rank])
    assert rows.abs().max() <= features**-0.5
    assert not torch.equal(rows, drawn("b", rank, features, seed))
    assert not torch.equal(rows, drawn("a", rank, features, seed + 1))


@given(rows=st.integers(1, 40), more=st.integers(0, 40), features=st.integers(1, 70), seed=st.integers(0, 3))
def test_so_does_normal_noise(rows, more, features, seed):
    noise = normal("a", rows, features, seed)
    assert torch.equal(noise, normal("a", rows + more, features, seed)[:rows])
    assert not torch.equal(noise, normal("b", rows, features, seed))
    assert not torch.equal(noise, normal("a", rows, features, seed + 1))
