"""Linear modules in layers that `torch.compile` compiles, heard without the compiler looking into them.

What lies between the linear modules (norms, rotations, activations, residual sums) is memory traffic: a quarter of a
frozen pass on a large GPU. A compiled layer does it in fewer kernels, and computes again what is cheap instead of
keeping it. A hook in Python cannot be compiled. So in such a layer a module computes by an operator that is opaque to
the compiler, and so is its derivative: that hands (inputs, ∂loss/∂output) to the listener and gives ∂loss/∂inputs.

Operators take no objects. So a module is found by the address of its weight when they run, and layers of one kind are
compiled once.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._functorch import config as functorch
from transformers.pytorch_utils import Conv1D

from layerlens_core.inspection.packed import is_plain
from layerlens_core.profiling.hooks.tap import Ear, anchor

#: Turns inputs [..., in] into what is kept of them [..., columns].
Keep = Callable[[Tensor], Tensor]

#: For how many lengths, masks and modes one layer's code may be compiled; for more it runs uncompiled.
VARIANTS = 64

#: Code runs only where modules have the hooks that they had when it was compiled. By default what was compiled without
#: some runs where there are some, and leaves them out.
TRACED: dict[str, object] = {"recompile_limit": VARIANTS, "skip_nnmodule_hook_guards": False}

#: How layers are compiled. Listeners keep tensors, and recognise shared inputs by their memory; so no buffer that they
#: may hold is written again.
OPTIONS: dict[str, object] = {"options": {"allow_buffer_reuse": False, "inplace_buffers": False}}

#: Inputs that are cheap to compute again from what the backward pass needs anyway are not kept for the listeners: on an
#: H200 that takes 2 % longer, and no more memory than a pass without any.
RECOMPUTED = {"ban_recompute_materialized_backward": False}

#: Who hears a module, by the address of its weight.
_EARS: dict[int, Ear] = {}


# Defined without the wrappers of `torch.library.custom_op`, which take as long as a small kernel does.
_OPERATORS = torch.library.Library("layerlens", "DEF")
_OPERATORS.define("kept(Tensor inputs, int columns) -> Tensor")
_OPERATORS.define("linear(Tensor inputs, Tensor kept, Tensor weight, Tensor? bias, bool upright) -> Tensor")
_OPERATORS.define("hear(Tensor gradient, Tensor kept, Tensor weight, bool upright, bool wanted) -> (Tensor, Tensor)")


def _kept(inputs: Tensor, columns: int) -> Tensor:
    # Any module's ear will do: what is kept of an input does not depend on the module.
    keep = next(iter(_EARS.values())).keep
    assert keep is not None
    found, shape = keep(inputs), (*inputs.shape[:-1], columns)
    # Empty where rows cannot be attributed to samples, which the listener will see.
    return found.view(shape).clone() if found.numel() else inputs.new_empty(shape)


def _linear(inputs: Tensor, kept: Tensor, weight: Tensor, bias: Tensor | None, upright: bool) -> Tensor:
    ear = _EARS[weight.data_ptr()]
    ear.on_call()
    output = nn.functional.linear(inputs, weight if upright else weight.mT, bias)
    return output if ear.add is None else ear.add(inputs, output)


def _hear(gradient: Tensor, kept: Tensor, weight: Tensor, upright: bool, wanted: bool) -> tuple[Tensor, Tensor]:
    of_addition = _EARS[weight.data_ptr()].listener(kept, gradient)
    of_anchor = gradient.new_zeros((), dtype=torch.float32)
    if not wanted:
        return gradient.new_empty(0), of_anchor
    of_inputs = gradient @ (weight if upright else weight.mT)
    return of_inputs if of_addition is None else of_inputs.add_(of_addition), of_anchor


for _name, _operator in {"kept": _kept, "linear": _linear, "hear": _hear}.items():
    _OPERATORS.impl(_name, _operator, "CompositeExplicitAutograd")


@torch.library.register_fake("layerlens::kept", lib=_OPERATORS)
def _(inputs: Tensor, columns: int) -> Tensor:
    return inputs.new_empty((*inputs.shape[:-1], columns))


@torch.library.register_fake("layerlens::linear", lib=_OPERATORS)
def _(inputs: Tensor, kept: Tensor, weight: Tensor, bias: Tensor | None, upright: bool) -> Tensor:
    return inputs.new_empty((*inputs.shape[:-1], weight.shape[0 if upright else 1]))


@torch.library.register_fake("layerlens::hear", lib=_OPERATORS)
def _(gradient: Tensor, kept: Tensor, weight: Tensor, upright: bool, wanted: bool) -> tuple[Tensor, Tensor]:
    shape = (*gradient.shape[:-1], weight.shape[1 if upright else 0]) if wanted else (0,)
    return gradient.new_empty(shape), gradient.new_empty((), dtype=torch.float32)


class _Linear(torch.autograd.Function):
    """The operator, with its derivative."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, kept: Tensor, weight: Tensor, bias: Tensor | None, anchor: Tensor, upright: bool
    ) -> Tensor:
        ctx.save_for_backward(kept, weight)
        ctx.upright = upright
        result: Tensor = torch.ops.layerlens.linear(inputs, kept, weight, bias, upright)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        # The compiler drops an operator whose results are unused, so the anchor's derivative is always one of them.
        of_inputs, of_anchor = torch.ops.layerlens.hear(gradient, kept, weight, ctx.upright, wanted)
        return of_inputs if wanted else None, None, None, None, of_anchor, None


class _Heard(nn.Module):
    """A linear module that computes by the operators.

    columns: of what is kept of the inputs; 0 for the inputs themselves.
    """

    anchor: Tensor
    columns: int
    upright: bool

    def forward(self, inputs: Tensor) -> Tensor:
        kept = inputs.detach()
        kept = torch.ops.layerlens.kept(kept, self.columns) if self.columns else kept
        result: Tensor = _Linear.apply(inputs, kept, self.weight, self.bias, self.anchor, self.upright)
        return result


class _HeardLinear(_Heard, nn.Linear):
    upright = True


class _HeardConv1D(_Heard, Conv1D):  # type: ignore[misc]
    upright = False


_HEARD: dict[type[nn.Module], type[_Heard]] = {nn.Linear: _HeardLinear, Conv1D: _HeardConv1D}


def can_be_heard(module: nn.Module) -> bool:
    """Whether the operators do what the module does: a plain linear module without hooks, its weight at hand."""
    weight = getattr(module, "weight", None)  # packed modules may have none of this name
    return (
        type(module) in _HEARD
        and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
        and isinstance(weight, nn.Parameter)
        and is_plain(weight)
        and not weight.is_meta
    )


@contextmanager
def compiled(layers: Sequence[nn.Module], ears: Mapping[nn.Module, Ear], columns: int) -> Iterator[None]:
    """Run layers compiled inside, and hear modules of theirs; afterwards all is as before.

    layers: to compile.
    ears: by module; each can be heard (`can_be_heard`), and no two share a weight.
    columns: of what the ears keep of inputs, 0 where they keep the inputs.
    """
    anchors: dict[torch.device, Tensor] = {}
    earlier = [(layer, vars(layer).get("_compiled_call_impl")) for layer in layers]
    kinds = {module: type(module) for module in ears}
    try:
        for module, ear in ears.items():
            _EARS[module.weight.data_ptr()] = ear  # type: ignore[operator]
            module.__class__ = _HEARD[type(module)]
            vars(module).update(anchor=anchor(module.weight.device, anchors), columns=columns)  # type: ignore[arg-type]
        for layer in layers:
            layer.compile(**OPTIONS)
        with dynamo.patch(TRACED), functorch.patch(RECOMPUTED):
            yield
    finally:
        for layer, call in earlier:
            vars(layer).pop("_compiled_call_impl", None)
            if call is not None:
                layer._compiled_call_impl = call
        for module, kind in kinds.items():
            module.__class__ = kind
            vars(module).pop("anchor", None)
            vars(module).pop("columns", None)
        _EARS.clear()
