"""Spectrum's signal to noise, against the formula written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import zoo
from layerlens_builtin.metrics.snr import score, signal_to_noise
from zoo.profiled import active_profile


def written_out(matrix):
    """Spectrum's, a line a step."""
    values = sorted(np.linalg.svd(matrix, compute_uv=False), reverse=True)
    sigma = (np.quantile(values, 0.75) - np.quantile(values, 0.25)) / 1.349
    beta = min(matrix.shape) / max(matrix.shape)
    edge = sigma * (1 + math.sqrt(beta))
    signal = sum(value for value in values if value > edge)
    noise = sum(value for value in values if value <= edge)
    return (signal / noise if noise else math.inf) / values[0]


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**31))
def test_it_is_the_formula(height, width, seed):
    matrix = np.random.default_rng(seed).normal(size=(height, width))
    expected = written_out(matrix)
    assume(math.isfinite(expected))
    values = torch.from_numpy(np.linalg.svd(matrix, compute_uv=False))
    assert signal_to_noise(values, min(matrix.shape), max(matrix.shape)) == pytest.approx(expected)


def test_where_nothing_is_noise_the_smallest_value_stands_for_it():
    assert signal_to_noise(torch.ones(4, dtype=torch.float64), 4, 4) == pytest.approx(4.0)
    assert signal_to_noise(torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), 6, 6) > 0
    assert signal_to_noise(torch.zeros(4, dtype=torch.float64), 4, 4) == 0.0


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_module_of_a_model_is_scored_without_data(name):
    profile = active_profile(zoo.find(name), samples=())
    found = score(profile)
    for module in profile.modules:
        expected = written_out(profile.model.get_submodule(module).weight.detach().numpy())
        assert found[module] == pytest.approx(expected if math.isfinite(expected) else found[module])
    assert list(found) == list(profile.modules)
