"""All of a model that a metric must leave as it was, as values that compare."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layerlens_core.testing.chance import digests

if TYPE_CHECKING:
    from transformers import PreTrainedModel

State = Mapping[str, Mapping[str, Any]]


def state_of(model: "PreTrainedModel") -> State:
    """What the model is: by aspect, and by name of module, weight or library.

    model: any; its weights are copied.
    """
    modules = dict(model.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {
            name: None if parameter.grad is None else parameter.grad.clone()
            for name, parameter in model.named_parameters()
        },
        "training mode": {name: module.training for name, module in modules.items()},
        "modules": {name: id(module) for name, module in modules.items()},
        "hooks": {name: sum(len(getattr(module, each)) for each in hooks) for name, module in modules.items()},
        "random state": digests(),
    }


def first_difference(before: State, after: State) -> str | None:
    """Where two states differ first, in words; None where they do not."""
    for aspect, values in before.items():
        if changed := sorted(set(values) ^ set(after[aspect])):
            return f"{aspect}: {changed[0]} is new or gone"
        for name, value in values.items():
            if not _same(value, after[aspect][name]):
                return f"{aspect} of {name or 'the model'}"
    return None


def _same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(type(one) is type(other) and one == other)
