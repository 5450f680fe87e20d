"""The fixtures, as a test that names them gets them; models of random sizes differ, and a seed gives the same one."""

import pytest

from layerlens_core.errors import DataError
from layerlens_core.plugin.discovery import OURS
from layerlens_core.testing.fixtures import isolated_registry, random_model, tiny_model, tiny_profile, tiny_samples

pytestmark = pytest.mark.torch
FIXTURES = (isolated_registry, random_model, tiny_model, tiny_profile, tiny_samples)


def test_the_registry_has_what_comes_along_alone(isolated_registry):
    assert {plugin.distribution for plugin in isolated_registry.plugins} == {OURS}


def test_models_are_drawn_by_seed(tiny_model, random_model):
    import torch

    for made in (lambda seed: tiny_model("gpt2", seed=seed), random_model):
        one, same, other = (next(made(seed).parameters()) for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert one.shape != other.shape or not torch.equal(one, other)
    sizes = {tuple(next(random_model(seed).parameters()).shape) for seed in range(6)}
    assert len(sizes) > 2
    with pytest.raises(DataError, match=r"no tiny model is named 'lama'.* Did you mean 'llama'\?"):
        tiny_model("lama")


def test_samples_fit_the_model_and_the_profile_is_made_once(tiny_samples, tiny_model, tiny_profile):
    (sample, *_) = tiny_samples("bert-classifier")
    model = tiny_model("bert-classifier")
    assert model(**{key: value[None] for key, value in sample.items()}).loss > 0
    assert tiny_profile("llama") is tiny_profile("llama")
    assert all(each.spectrum and each.fisher > 0 for each in tiny_profile("llama").statistics)
