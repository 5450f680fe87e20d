"""Change a model, and be able to restore it (`layerlens_core.profiling.model.frozen` is for using it as it is)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def remember(model: nn.Module) -> Callable[[], None]:
    """A function that restores the model: every module is again the very one that it is now.

    Every weight is frozen or not as now. Hooks, attributes and the random state, from which adapters are drawn, are
    restored with them.
    """
    # Every dictionary of a module with its contents: children, parameters, hooks, and what adapters keep by name.
    attributes = [
        (
            module,
            dict(vars(module)),
            {name: dict(held) for name, held in vars(module).items() if isinstance(held, dict)},
        )
        for module in model.modules()
    ]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    random = torch.get_rng_state()

    def restore() -> None:
        for module, known, contents in attributes:
            module.__dict__.clear()
            module.__dict__.update(known)
            for name, content in contents.items():
                known[name].clear()
                known[name].update(content)
        for parameter, requires_grad in required:
            parameter.requires_grad_(requires_grad)
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
