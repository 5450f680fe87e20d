"""What tests ask of a model, and do to it."""

from typing import Any

import pytest
import torch
import transformers
from attrs import frozen
from torch import nn


def logits(model, tiny_model):
    """What a model computes of the inputs of its kind."""
    with torch.no_grad():
        return model(**tiny_model.inputs()).logits


def perturb(model, seed=5):
    """Move everything that trains, so that B is not zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def add_adapter(model, config):
    """transformers' own way to give a model an adapter. Skips the test where it wants another PEFT than ours."""
    try:
        model.add_adapter(config)
    except ValueError as error:
        if "version of PEFT" not in str(error):
            raise
        pytest.skip(f"transformers {transformers.__version__}: {error}")


@frozen(eq=False)
class _Same:
    """Equal only where it holds the very same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that looking at it must not change, in values that compare."""
    return {
        "weights": {name: tensor.detach().clone().numpy().tobytes() for name, tensor in model.state_dict().items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "parameters": {name: id(parameter) for name, parameter in model.named_parameters()},
        "modules": {name: id(module) for name, module in model.named_modules()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: [len(hooks) for key, hooks in vars(module).items() if key.endswith("_hooks") and hooks is not None]
            for name, module in model.named_modules()
        },
        "attributes": {
            name: {key: _Same(value) for key, value in vars(module).items()} for name, module in model.named_modules()
        },
        "random": torch.get_rng_state().tolist(),
    }


def odd_state(model: nn.Module) -> nn.Module:
    """Put a model in a state that a careless reset would not reproduce."""
    model.train()
    next(model.children()).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 == 0)
    next(model.modules()).register_forward_hook(lambda module, args, output: None)
    return model
