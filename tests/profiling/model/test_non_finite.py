"""What is not finite is named."""

import pytest
import torch

import zoo
from layerlens_core.errors import NonFiniteError
from layerlens_core.profiling.profile import profile
from zoo.probing import snapshot
from zoo.profiled import build, samples


def test_a_loss_that_is_not_finite_names_the_module_and_the_batch():
    family = zoo.find("llama")
    model = build(family, torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    before = snapshot(model)
    with pytest.raises(NonFiniteError, match=r"batch 0; .*model\.layers\.1\.mlp\.down_proj"):
        profile(model, samples(family))
    assert snapshot(model) == before


def test_a_gradient_that_is_not_finite_names_the_module_and_the_batch():
    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("inf")

    family = zoo.find("llama")
    model = build(family, torch.float32)
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda _m, _a, output: Poison.apply(output))
    with pytest.raises(NonFiniteError, match=r"model\.layers\.0\..* not finite in batch 0"):
        profile(model, samples(family), metrics=["weight_gradient"])
    # Mean gradients, by which the default scores, are looked at when they are whole.
    with pytest.raises(
        NonFiniteError, match=r"model\.layers\.0\.mlp\.\w+_proj is not finite; load the model in float32"
    ):
        profile(model, samples(family))
