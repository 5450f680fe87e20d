"""The vocabulary head kept small: logits at labelled positions alone, and only some of them at a time.

A language model's logits [samples, T, vocabulary] in float32 are often the largest tensor of a pass, and most of them
belong to positions without a label. A hook in front of the head picks the labelled positions out. Where the model
returns the head's logits unchanged, the loss is then computed some rows at a time, each with its gradient, so that the
logits are never there in full. Where it changes them (Gemma caps them, Cohere scales them), the model does that to the
labelled positions' logits. Where neither way gives the model's own logits (both are tried on one sample), the head is
left alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from attrs import define
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError

#: Entries of float32 logits that are held at once.
HELD = {"cpu": 2**22, "cuda": 2**27}
#: Hidden states are multiplied by this when the head is tried: a cap on logits hardly shows in small ones.
_ENLARGED = 64.0
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

#: Runs the model and gives its logits [samples, T, vocabulary].
Run = Callable[[], Tensor]


@define(eq=False)
class VocabularyHead:
    """The head of a language model.

    module: the head.
    chunked: the model's logits are the head's, so that they can be computed some rows at a time.
    """

    module: nn.Module
    chunked: bool

    @classmethod
    def find(cls, model: PreTrainedModel, run: Run, positions: Tensor) -> "VocabularyHead | None":
        """The head, after a try; None where it must be left alone.

        model: that has the head.
        run: runs the model on a sample.
        positions: of labels, in the flattened samples and tokens [N].
        """
        module = model.get_output_embeddings()
        if not isinstance(module, nn.Module):
            return None
        head = cls(module, chunked=False)
        positions = positions.flip(0)  # in another order, so that a head that mixes positions gives other logits
        try:
            with torch.no_grad():
                hidden, logits = head._replaced(run, positions, keep=None, scale=_ENLARGED)
                plain = logits.flatten(0, 1)[positions]
                same = _same(head._selected(run, positions, scale=_ENLARGED), plain)
                head.chunked = _same(module(hidden), plain)
        except (ModelError, RuntimeError, ValueError, IndexError, TypeError):
            return None  # the forward pass needs every position
        return head if same else None

    def terms(self, run: Run, positions: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy [N] at the labelled positions, at least in float32.

        run: runs the model on a batch.
        positions: of labels, in the flattened samples and tokens [N].
        targets: the label at each position [N].
        """
        if not self.chunked:
            logits = self._selected(run, positions)
            return cross_entropy(at_least_float32(logits), targets.to(logits.device), reduction="none")
        hidden, _ = self._replaced(run, positions, keep=1)
        result: Tensor = _Terms.apply(hidden, targets, self.module)  # type: ignore[no-untyped-call]
        return result

    def _selected(self, run: Run, positions: Tensor, scale: float = 1.0) -> Tensor:
        """The model's logits [N, vocabulary] at these positions. Raises `ValueError` where the model gives others."""
        hidden, logits = self._replaced(run, positions, keep=len(positions), scale=scale)
        if logits.shape[:-1] != (1, len(hidden)):
            raise ValueError(f"the model gives logits of shape {tuple(logits.shape)}")
        return logits[0]

    def _replaced(self, run: Run, positions: Tensor, *, keep: int | None, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Run the model with other hidden states before the head. Returns the states at all positions, and the logits.

        run: runs the model.
        positions: in the flattened samples and tokens [N].
        keep: how many of the positions the head gets; None gives it the model's own states.
        scale: by which the states are multiplied.
        """
        seen: list[Tensor] = []

        def select(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            states = args[0].flatten(0, -2)
            seen.append(states[positions.to(states.device)] * scale)
            return (args[0] * scale if keep is None else seen[-1][None, :keep], *args[1:])

        handle = self.module.register_forward_pre_hook(select)
        try:
            logits = run()
        finally:
            handle.remove()
        if len(seen) != 1:
            raise ValueError(f"the head ran {len(seen)} times")
        return seen[0], logits


class _Terms(torch.autograd.Function):
    """Cross-entropy of each row, whose gradient is computed along with it, some rows at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
        terms, gradient = [], torch.empty_like(hidden)
        step = 1  # until the first row has shown how wide the vocabulary is
        start = 0
        while start < len(hidden):
            rows = slice(start, start + step)
            with torch.enable_grad():
                states = hidden[rows].detach().requires_grad_(True)
                logits = at_least_float32(head(states))
                loss = cross_entropy(logits, targets[rows].to(logits.device), reduction="none")
            (gradient[rows],) = torch.autograd.grad(loss, states, torch.ones_like(loss))
            terms.append(loss.detach())
            start += step
            step = max(1, HELD.get(hidden.device.type, HELD["cuda"]) // logits.shape[-1])
        ctx.save_for_backward(gradient)
        return torch.cat(terms)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None].to(gradient), None, None


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in its dtype, or in float32 where that is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _same(a: Tensor, b: Tensor) -> bool:
    tolerance = _TOLERANCE.get(b.dtype, 1e-2)
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * b.abs().max())
