"""Effective rank: the formula, its bounds, and the mean gradient that it is of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from layerlens_builtin.metrics.effective_rank import effective_rank, score
from zoo.profiled import active_profile, reference


@pytest.mark.parametrize("name", ["llama", "gpt2", "albert"])
def test_it_is_the_exponential_of_the_entropy_of_singular_values(name):
    profile = active_profile(zoo.find(name))
    found = score(profile)
    for module, truth in reference(profile.model, list(profile.modules), list(profile.samples)).items():
        values = np.linalg.svd(truth.mean(dim=0).numpy(), compute_uv=False)
        shares = [float(value) / values.sum() for value in values]
        entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
        assert found[module] == pytest.approx(math.exp(entropy), rel=1e-6)
        assert 1 <= found[module] <= min(truth.shape[1:]) + 1e-9


@given(st.integers(1, 9), st.integers(0, 5), st.floats(1e-200, 1e200))
def test_equal_values_count_and_zeros_do_not(equal, zeros, size):
    values = torch.tensor([size] * equal + [0.0] * zeros, dtype=torch.float64)
    assert effective_rank(values) == pytest.approx(equal)


def test_no_gradient_has_no_rank():
    assert effective_rank(torch.zeros(3)) == 0.0
