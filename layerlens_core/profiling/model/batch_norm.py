"""Batch normalisation with fixed statistics, as torch 2.13 gets it wrong on a CPU.

There the backward pass of a single sample takes the wrong values where inputs and output gradients lie in memory in
different orders, as between a convolution and a transposed attention (CvT): off by more than the gradient itself, and
nothing is said. Where both are contiguous it is right.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def right_batch_norms(model: nn.Module) -> Iterator[None]:
    """Inside, batch normalisations on a CPU get contiguous inputs and output gradients."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, _BatchNorm) and _is_on_cpu(module):
                stack.callback(module.register_forward_pre_hook(_contiguous_inputs).remove)
                stack.callback(module.register_forward_hook(_contiguous_gradient).remove)
        yield


def _is_on_cpu(module: nn.Module) -> bool:
    return all(tensor.device.type == "cpu" for tensor in (*module.parameters(), *module.buffers()))


def _contiguous_inputs(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.contiguous() if isinstance(each, Tensor) else each for each in args)


def _contiguous_gradient(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
    result: Tensor = _Contiguous.apply(output)  # type: ignore[no-untyped-call]
    return result


class _Contiguous(torch.autograd.Function):
    """The identity, whose gradient comes contiguous."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        return output.detach()  # no view: activations that write in place may follow

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()
