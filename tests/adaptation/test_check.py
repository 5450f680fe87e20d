"""Gradients, checked on request."""

import pytest
import torch
import transformers
from torch import nn

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.check import check_gradients
from layerlens_core.errors import ModelError
from zoo.plans import plan_with

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_every_planned_parameter_gets_a_gradient_and_the_check_leaves_no_trace(mixed, family):
    state = {name: value.clone() for name, value in mixed.state_dict().items()}
    random = torch.get_rng_state()
    check_gradients(mixed, family.inputs(labels=True))
    assert all(torch.equal(value, state[name]) for name, value in mixed.state_dict().items())
    assert all(parameter.grad is None for parameter in mixed.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_module_that_is_never_called_is_found(family):
    class Unused(transformers.LlamaForCausalLM):
        def __init__(self, config):
            super().__init__(config)
            self.model.layers[1].spare = nn.Linear(32, 8)

    model = Unused(family.build().config)
    wrapped = apply(model, plan_with(model, {"model.layers.1": ("lora", 2)}))
    with pytest.raises(ModelError, match=r"2 of 16 trainable parameters get no gradient.*spare\.lora_A"):
        check_gradients(wrapped, family.inputs(labels=True))
