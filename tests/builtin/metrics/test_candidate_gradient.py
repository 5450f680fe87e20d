"""The gradient of B where LoRA starts, against (α/r) Ḡ Aᵀ and against its expectation over A."""

import math

import attrs
import pytest
import torch

import zoo
from layerlens_builtin.metrics import candidate_gradient
from layerlens_builtin.metrics.candidate_gradient import FEWEST_SAMPLES, RANK, REPEATS, SCALE, score
from layerlens_core.errors import DataError
from layerlens_core.plugin import disjoint, lora_layers, temporary_lora, untouched
from zoo.profiled import active_profile, reference


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert-classifier"])
def test_it_is_the_squared_norm_of_scaled_gradients_times_a(name):
    given = active_profile(zoo.find(name))
    found = score(given)
    assert len(found) == REPEATS
    for repeat, part in enumerate(disjoint(list(given.samples), REPEATS, given.seed)):
        with untouched(given.model):
            torch.manual_seed(repeat)
            with temporary_lora(given.model, dict.fromkeys(given.modules, RANK), scale=SCALE) as tuned:
                drawn = {
                    module: layer.lora_A["default"].weight.detach().double()
                    for module, layer in lora_layers(tuned).items()
                }
        truth = reference(given.model, list(given.modules), part)
        for module in given.modules:
            expected = (SCALE * truth[module].mean(dim=0) @ drawn[module].T).square().sum()
            assert found[repeat][module] == pytest.approx(float(expected), rel=1e-4)


def test_in_expectation_it_is_the_gradients_squared_norm_by_width(monkeypatch):
    monkeypatch.setattr(candidate_gradient, "REPEATS", 1)
    given = active_profile(zoo.find("llama"))
    draws = 24
    sums = dict.fromkeys(given.modules, 0.0)
    for seed in range(draws):
        (found,) = score(attrs.evolve(given, seed=seed))
        sums = {name: sums[name] + found[name] / draws for name in sums}
    truth = reference(given.model, list(given.modules), list(given.samples))
    for module in given.inventory.modules:
        norm = float(truth[module.name].mean(dim=0).square().sum())
        expected = SCALE**2 * RANK * norm / (3 * module.in_features)
        assert sums[module.name] == pytest.approx(expected, rel=0.25)


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match=f"candidate_gradient needs at least {FEWEST_SAMPLES} samples"):
        score(active_profile(zoo.find("llama"), count=FEWEST_SAMPLES - 1))


def test_draws_differ_and_memory_does_not_show():
    one, other = (score(active_profile(zoo.find("llama"), micro_batch=size)) for size in (1, 12))
    for first, second in zip(one, other, strict=True):
        assert first == pytest.approx(second, rel=1e-4)
    assert not math.isclose(one[0]["model.layers.0.self_attn.q_proj"], one[1]["model.layers.0.self_attn.q_proj"])
