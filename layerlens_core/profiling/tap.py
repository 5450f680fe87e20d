"""Listen to a linear module: its inputs, and the gradients of its outputs."""

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

#: Called in the backward pass with the module's input [..., in] and the gradient of its output [..., out].
Listener = Callable[[Tensor, Tensor], None]


@frozen(eq=False)
class Ear:
    """What hears a module.

    on_call: called whenever the module's forward runs, recomputation included. keep: makes of the input what is kept
    for the listener in its place; None keeps the input.
    """

    listener: Listener
    on_call: Callable[[], None]
    keep: Callable[[Tensor], Tensor] | None = None


class _Tap(torch.autograd.Function):
    """The identity on ``output``, which hands (inputs, ∂loss/∂output) to a listener in the backward pass.

    The module stays a black box that is linear in its weight, and all work happens in backward, so that it
    happens once for every call also where checkpointing recomputes the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, inputs: Tensor, anchor: Tensor, listener: Listener) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.listener = listener
        # A detached alias rather than a view: in-place operations may follow, and autograd forbids those on
        # views that a custom function returns.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        (inputs,) = ctx.saved_tensors
        ctx.listener(inputs, gradient)
        return gradient if ctx.needs_input_grad[0] else None, None, None, None


def tap(module: nn.Module, ear: Ear) -> torch.utils.hooks.RemovableHandle:
    """Attach an ear to a module; remove the returned handle to detach it.

    The weights may be frozen: an anchor keeps the output in the graph, so below the lowest tapped module nothing is
    kept or computed.
    """
    anchors: dict[torch.device, Tensor] = {}

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        ear.on_call()
        inputs = args[0] if args else next(iter(kwargs.values()))
        kept = inputs if ear.keep is None else ear.keep(inputs)
        result: Tensor = _Tap.apply(output, kept, anchor(output.device, anchors), ear.listener)  # type: ignore[no-untyped-call]
        return result

    return module.register_forward_hook(hook, with_kwargs=True)


def anchor(device: torch.device, anchors: dict[torch.device, Tensor]) -> Tensor:
    """A scalar on the device that requires a gradient, which ties what is computed with it to the graph."""
    if device not in anchors:
        anchors[device] = torch.zeros((), device=device, requires_grad=True)
    return anchors[device]
