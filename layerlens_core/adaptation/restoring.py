"""Change a model and have it back as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def remember(model: nn.Module) -> Callable[[], None]:
    """A function that makes every module again the very one that it is now, and every weight frozen or not as now.

    Hooks, attributes and the random state, from which adapters are drawn, go back with them.
    """
    children = [(module, dict(module._modules)) for module in model.modules()]
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    hooks = [(module, dict(module._forward_hooks)) for module in model.modules()]
    random = torch.get_rng_state()

    def restore() -> None:
        for module, named in children:
            module._modules.clear()
            module._modules.update(named)
        for module, known in attributes:
            for attribute in set(vars(module)) - set(known):
                del module.__dict__[attribute]
            vars(module).update(known)
        for parameter, requires_grad in required:
            parameter.requires_grad_(requires_grad)
        for module, known_hooks in hooks:
            for added in set(module._forward_hooks) - set(known_hooks):
                del module._forward_hooks[added]
        torch.set_rng_state(random)

    return restore


@contextmanager
def restored_on_error(model: nn.Module) -> Iterator[None]:
    """Leaves the model as it was where the body raises."""
    restore = remember(model)
    try:
        yield
    except BaseException:
        restore()
        raise
