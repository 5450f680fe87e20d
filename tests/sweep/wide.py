"""A model computes in float64 throughout, also where its own code asks for float32.

Many models widen norms, softmax or rotary positions to float32, which narrows them where the model is in float64: its
own backward passes would then be exact to seven digits, and could not tell a wrong score from a rounded one.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Wide(TorchFunctionMode):
    """Gives float64 where float32 is asked for, and notes both what it widened and what stayed narrow.

    widens: whether it does; else it only notes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.widened: set[str] = set()
        self.narrow: set[str] = set()
        self.widens = True

    def clear(self) -> None:
        """Forgets what was noted."""
        self.widened.clear()
        self.narrow.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        asks = False
        if not self.widens:
            pass
        elif func is Tensor.float:
            func, asks = Tensor.double, True
        else:
            given = kwargs or {}
            asks = any(value is torch.float32 for value in (*args, *given.values()))
            args = tuple(_wider(value) for value in args)
            kwargs = {key: _wider(value) for key, value in given.items()}
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point() and result.requires_grad:
            if asks:
                self.widened.add(name)
            if result.dtype != torch.float64:
                self.narrow.add(name)
        return result


def widen(architecture: type) -> Wide:
    """From now on, forward passes of a class of models run in this mode, which is given back."""
    mode, forward = Wide(), architecture.forward  # type: ignore[attr-defined]

    @functools.wraps(forward)
    def wide(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return forward(*args, **kwargs)

    architecture.forward = wide  # type: ignore[attr-defined]
    return mode


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
