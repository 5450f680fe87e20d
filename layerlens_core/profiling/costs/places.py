"""Places that a forward pass leaves out: attentions, blocks and experts that are never called, or to no avail.

Linear modules tell this in the pass over the data. Other places where methods attach are seen here, in the forward pass
that counts activations: whether they are called, and whether their outputs are among what the loss was computed from,
which autograd's graph tells without a backward pass.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.profiling.hooks.tap import anchor
from layerlens_core.values.inventory import Inventory, Skipped

NEVER_CALLED = "never called in the forward pass"
NOT_REACHED = "its output does not reach the loss"


@define(eq=False)
class Places:
    """What a forward pass does with the places of a model.

    modules: by place, the module whose call it takes part in: of an expert's weight the stack that holds it.
    inside: by place, the linear modules in it.
    """

    modules: Mapping[str, str]
    inside: Mapping[str, Sequence[str]]
    _called: set[str] = field(factory=set, init=False)
    _nodes: dict[str, list[Any]] = field(factory=dict, init=False)
    _reached: set[str] = field(factory=set, init=False)

    @classmethod
    def of(cls, inventory: Inventory) -> "Places":
        """Those of an inventory, its linear modules left out."""
        modules: dict[str, str] = {}
        for layer in inventory.layers:
            modules |= {attention.name: attention.name for attention in layer.attentions}
            modules |= {block.name: block.name for block in layer.blocks}
            modules |= {weight.name: weight.name.rpartition(".")[0] for weight in layer.experts}
        names = [module.name for module in inventory.modules]
        return cls(modules, {
            place: [name for name in names if name.startswith(f"{module}.")] for place, module in modules.items()
        })  # fmt: skip

    @contextmanager
    def watched(self, model: PreTrainedModel) -> Iterator[None]:
        """See what is called inside."""
        watched = {*self.modules.values(), *(name for names in self.inside.values() for name in names)}
        handles = [model.get_submodule(name).register_forward_hook(self._hook(name)) for name in watched]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def trace(self, loss: Tensor) -> None:
        """Note whose outputs a loss was computed from."""
        open_nodes, seen = [loss.grad_fn], set()
        while open_nodes:
            node = open_nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                open_nodes += [before for before, _ in node.next_functions]
        self._reached = {name for name, nodes in self._nodes.items() if not seen.isdisjoint(nodes)}
        self._nodes.clear()

    def left_out(self, scored: Collection[str]) -> list[Skipped]:
        """The places that are called in vain or not at all, with the reason.

        scored: linear modules that have a score. Where some in a place have one that did not run here, other samples
            call it.
        """
        found = []
        for place, module in self.modules.items():
            inside = self.inside[place]
            called = module in self._called
            if module in self._reached or (not called and set(inside) & set(scored) - self._called):
                continue
            found.append(Skipped(name=place, reason=NOT_REACHED if called else NEVER_CALLED))
        return found

    def _hook(self, name: str) -> Any:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            self._called.add(name)
            if name not in self.modules.values() or not torch.is_grad_enabled():
                return None
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    self._nodes.setdefault(name, []).append(tensor.grad_fn)
            if name in self._nodes:
                return None
            # Nothing below requires a gradient, as where a model has no embeddings: tie the output to the graph.
            return _replaced(output, lambda tensor: self._tied(name, tensor))

        return hook

    def _tied(self, name: str, tensor: Tensor) -> Tensor:
        made = tied(tensor)
        self._nodes.setdefault(name, []).append(made.grad_fn)
        return made


def tied(tensor: Tensor) -> Tensor:
    """The same numbers, tied to autograd's graph."""
    result: Tensor = _Tied.apply(tensor, anchor(tensor.device, {}))  # type: ignore[no-untyped-call]
    return result


class _Tied(torch.autograd.Function):
    """The identity, which depends on an anchor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, _anchor: Tensor) -> Tensor:
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors of a module's output."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def _replaced(output: Any, replace: Any) -> Any:
    """The output with other tensors in it, as far as it is a tensor or a tuple of them."""
    if isinstance(output, Tensor):
        return replace(output) if output.is_floating_point() else output
    if type(output) is tuple:
        return tuple(_replaced(value, replace) for value in output)
    return output
