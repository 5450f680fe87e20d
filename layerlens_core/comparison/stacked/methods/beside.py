"""Side modules of K arms: the method's own module is attached where `apply` attaches it, and computes for every arm.

What it does with the model around it (hooks, attention interfaces) stays its own. Only its forward is a stacked one
inside, an operator that is opaque to the compiler, as in `layerlens_core.profiling.hooks.compiled`, and so is its
derivative. Operators take no objects, so a place is found by the address of a tensor of its own, and layers of one kind
are compiled once.
"""

# mypy: disable-error-code="no-untyped-call,untyped-decorator"

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from layerlens_core.adaptation.config import Entry
from layerlens_core.adaptation.provided import provided_side
from layerlens_core.comparison.stacked.methods.place import Place

#: Whose forward is called, by the address of a tensor.
_PLACES: dict[int, Place] = {}

_OPERATORS = torch.library.Library("layerlens_stacked", "DEF")
_OPERATORS.define("add(Tensor inputs, Tensor output, Tensor tag) -> Tensor")
_OPERATORS.define("receive(Tensor inputs, Tensor gradient, Tensor tag) -> (Tensor, Tensor)")


def _add(inputs: Tensor, output: Tensor, tag: Tensor) -> Tensor:
    # No view, as models may write to it in place; and laid out as the compiler was told.
    return _PLACES[tag.data_ptr()].add(inputs, output).contiguous().detach()


def _receive(inputs: Tensor, gradient: Tensor, tag: Tensor) -> tuple[Tensor, Tensor]:
    found = _PLACES[tag.data_ptr()].receive(inputs, gradient)
    of_inputs = inputs.new_zeros(inputs.shape) if found is None else found.contiguous()
    return of_inputs, gradient.new_zeros((), dtype=torch.float32)


_OPERATORS.impl("add", _add, "CompositeExplicitAutograd")
_OPERATORS.impl("receive", _receive, "CompositeExplicitAutograd")


@torch.library.register_fake("layerlens_stacked::add", lib=_OPERATORS)
def _(inputs: Tensor, output: Tensor, tag: Tensor) -> Tensor:
    return torch.empty_like(output, memory_format=torch.contiguous_format)


@torch.library.register_fake("layerlens_stacked::receive", lib=_OPERATORS)
def _(inputs: Tensor, gradient: Tensor, tag: Tensor) -> tuple[Tensor, Tensor]:
    of_inputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    return of_inputs, gradient.new_empty((), dtype=torch.float32)


class _Addition(torch.autograd.Function):
    """The output with what a place adds, a function of the inputs. The anchor ties it to the graph.

    output: None where the inputs are the output; the compiler takes no tensor twice.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, output: Tensor | None, tag: Tensor, anchor: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, tag)
        ctx.alone = output is None
        result: Tensor = torch.ops.layerlens_stacked.add(inputs, inputs if output is None else output, tag)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, tag = ctx.saved_tensors
        # The compiler drops an operator whose results are unused, so the anchor's derivative is always one of them.
        of_inputs, of_anchor = torch.ops.layerlens_stacked.receive(inputs, gradient, tag)
        if ctx.alone:
            return of_inputs + gradient, None, None, of_anchor
        return of_inputs, gradient, None, of_anchor


def _correct(side: Any, output: Tensor) -> Tensor:
    """The forward of an adapter."""
    result: Tensor = _Addition.apply(output, None, side.tag, side.anchor)
    return result


def _attend(side: Any, query: Tensor, output: Tensor, scaling: float | None) -> Tensor:
    """The forward of a prefix."""
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    result: Tensor = _Addition.apply(query * factor, output, side.tag, side.anchor)
    return result


#: By method, the forward that its side module has while it is stacked.
_FORWARDS: dict[str, Callable[..., Tensor]] = {"adapter": _correct, "prefix": _attend}


@cache
def _stacked(kind: type[nn.Module], method: str) -> type[nn.Module]:
    """A class like a side module's, whose forward is stacked; one for all layers, as the compiler goes by classes."""
    return type(f"Stacked{kind.__name__}", (kind,), {"forward": _FORWARDS[method]})


@contextmanager
def beside(model: nn.Module, places: Sequence[tuple[str, Place]]) -> Iterator[None]:
    """Side modules stand beside their places' modules inside.

    model: that holds the modules.
    places: with the method of each.

    Raises what `SideModule.check` raises.
    """
    hosts = []
    try:
        for method, place in places:
            side = provided_side(method)
            host = model.get_submodule(place.name)
            side.attach(host, place.name, "default", Entry(method=method, size=1, shape=place.shape))
            attached: Any = host._modules[side.module.child]
            hosts.append(attached)
            tag = next(iter(place.tensors.values()))[0].flatten()[:1]
            _PLACES[tag.data_ptr()] = place
            anchor = torch.zeros((), device=tag.device, requires_grad=True)
            kind: Any = type(attached)
            attached.__class__ = _stacked(kind, method)
            vars(attached).update(tag=tag, anchor=anchor)
        yield
    finally:
        for attached in hosts:
            attached.detach()
        _PLACES.clear()
