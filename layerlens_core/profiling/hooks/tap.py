"""Listen to a linear module: its inputs, and the gradients of its outputs; and add something to these outputs."""

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

#: Called in the backward pass with the module's input [..., in] and the gradient of its output [..., out]. Where the
#: ear adds something to the output, it gives the derivative of that by the inputs [..., in].
Listener = Callable[[Tensor, Tensor], Tensor | None]


@frozen(eq=False)
class Ear:
    """What hears a module.

    listener: called in the backward pass.
    on_call: called whenever the module's forward runs, recomputation included.
    keep: turns the input into what is kept for the listener in its place; None keeps the input.
    add: gives the output with something added, a new tensor, from the input and the output; None adds nothing.
    """

    listener: Listener
    on_call: Callable[[], None]
    keep: Callable[[Tensor], Tensor] | None = None
    add: Callable[[Tensor, Tensor], Tensor] | None = None


class _Tap(torch.autograd.Function):
    """The identity on ``output``, which hands (inputs, ∂loss/∂output) to a listener in the backward pass.

    The module stays a black box that is linear in its weight. All work happens in the backward pass, so that it happens
    once for every call, also where checkpointing recomputes the forward pass.

    factors: the autograd node that keeps the factors of the inputs, where the inputs are not kept; see `_factors`.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, inputs: Tensor | None, factors: Any, anchor: Tensor, listener: Listener
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.factors, ctx.listener = factors, listener
        # A detached alias rather than a view: in-place operations may follow, and autograd forbids those on
        # views that a custom function returns.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (inputs,) = ctx.saved_tensors
        if inputs is None:
            inputs = ctx.factors._saved_self * ctx.factors._saved_other
        ctx.listener(inputs, gradient)
        return gradient if ctx.needs_input_grad[0] else None, None, None, None, None


class _Addition(torch.autograd.Function):
    """The output with what the ear adds to it. The listener gives the derivative of that by the inputs.

    kept: the inputs are kept; else they are the product of ``factors``, as in `_Tap`.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, inputs: Tensor, kept: bool, factors: Any, anchor: Tensor, ear: Ear) -> Tensor:
        ctx.save_for_backward(inputs if kept else None)
        ctx.factors, ctx.listener = factors, ear.listener
        assert ear.add is not None
        return ear.add(inputs, output).detach()  # an alias and no view, as in `_Tap`

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inputs,) = ctx.saved_tensors
        if inputs is None:
            inputs = ctx.factors._saved_self * ctx.factors._saved_other
        of_inputs = ctx.listener(inputs, gradient)
        needs = ctx.needs_input_grad
        return gradient if needs[0] else None, of_inputs if needs[1] else None, None, None, None, None


def _factors(inputs: Tensor) -> Any:
    """The autograd node that keeps both factors of which the inputs are the product, or None.

    Such inputs (of a gated layer's down projection, often the widest of all) need not be kept: multiplied again in the
    backward pass they are the same to the last bit. Where hooks hand out what was saved, as in checkpointing, the
    answer is None: they do so once only.
    """
    node: Any = inputs.grad_fn
    if type(node).__name__ != "MulBackward0" or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return None
    return node if node._saved_self is not None and node._saved_other is not None else None


def tap(module: nn.Module, ear: Ear) -> torch.utils.hooks.RemovableHandle:
    """Attach an ear to a module; remove the returned handle to detach it.

    The weights may be frozen: an anchor makes the output require a gradient, so that autograd keeps and computes
    nothing below the lowest tapped module.
    """
    anchors: dict[torch.device, Tensor] = {}

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        ear.on_call()
        inputs = args[0] if args else next(iter(kwargs.values()))
        result: Tensor
        if ear.add is not None:
            factors = _factors(inputs)
            result = _Addition.apply(output, inputs, factors is None, factors, anchor(output.device, anchors), ear)  # type: ignore[no-untyped-call]
            return result
        if ear.keep is None:
            factors = _factors(inputs)
            kept = inputs if factors is None else None
        else:
            factors, kept = None, ear.keep(inputs)
        result = _Tap.apply(output, kept, factors, anchor(output.device, anchors), ear.listener)  # type: ignore[no-untyped-call]
        return result

    return module.register_forward_hook(hook, with_kwargs=True)


def anchor(device: torch.device, anchors: dict[torch.device, Tensor]) -> Tensor:
    """A scalar on the device that requires a gradient, which ties what is computed with it to the graph."""
    if device not in anchors:
        anchors[device] = torch.zeros((), device=device, requires_grad=True)
    return anchors[device]
