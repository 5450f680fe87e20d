"""Reduce what a tap hears on one module to sums."""

import math
from collections.abc import Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.errors import NonFiniteError
from layerlens_core.profiling.directions import RangeFinder
from layerlens_core.profiling.products import (
    Route,
    cheaper,
    gram_products,
    per_sample_gradients,
    squared_norms,
)
from layerlens_core.profiling.samples import Sample
from layerlens_core.statistics import ModuleStatistics


@frozen
class BatchShape:
    """The number of samples of a micro-batch, and the lengths of its sequences."""

    samples: int
    lengths: frozenset[int]

    @classmethod
    def of(cls, batch: Sample) -> "BatchShape":
        lengths = frozenset(value.shape[1] for value in batch.values() if value.dim() == 2)
        return cls(len(next(iter(batch.values()))), lengths)

    def by_sample(self, rows: Tensor) -> Tensor | None:
        """What a module got or gave as [samples, tokens, features]; None where rows have lost their sample.

        Some models fold [samples, tokens] into one dimension before a linear module, which can be undone.
        A router that sends tokens to experts cannot, unless there is a single sample.
        """
        if rows.dim() >= 3 and rows.shape[0] == self.samples:
            return rows.flatten(1, -2)
        if rows.dim() == 2 and rows.shape[0] == self.samples:
            return rows[:, None]
        folded = {self.samples * length for length in self.lengths}
        if rows.dim() == 2 and (self.samples == 1 or rows.shape[0] in folded):
            return rows.reshape(self.samples, -1, rows.shape[-1])
        return None


@define(kw_only=True)
class Recorder:
    """The sums of one module over all micro-batches.

    Calls of one micro-batch are joined along the tokens: a module that runs several times, as in ALBERT, has
    one weight gradient, the sum over its calls. Groups are counted over the whole pass; one that a
    micro-batch cuts is carried over as the sum of its gradients so far.
    """

    name: str
    weight: Tensor | None  # [out, in], where Σ mean |W ⊙ ḡ| is wanted
    group: int
    route: Route | None
    directions: RangeFinder | None = None

    _shape: BatchShape = BatchShape(0, frozenset())
    _in_forward: bool = False
    _calls: int = 0
    _pending: list[tuple[Tensor, Tensor]] = field(factory=list)
    _reduced: bool = False

    _called: bool = False
    _reached: bool = False
    _lost_shape: tuple[int, ...] | None = None

    _in_group: int = 0
    _carried: Tensor | None = None
    _carried_squares: float = 0.0

    _squares: float = 0.0
    _fourths: float = 0.0
    _groups: int = 0
    _group_squares: float = 0.0
    _grouped_squares: float = 0.0
    _weight_gradients: float = 0.0

    def begin(self, shape: BatchShape) -> None:
        """A micro-batch's forward pass begins."""
        self._shape, self._in_forward, self._calls, self._reduced = shape, True, 0, False
        self._pending.clear()

    def count_call(self) -> None:
        """The module's forward ran; recomputation under checkpointing, in the backward pass, is no new call."""
        if self._in_forward:
            self._called = True
            self._calls += 1

    def forward_is_over(self) -> None:
        """The backward pass begins."""
        self._in_forward = False

    def receive(self, inputs: Tensor, gradients: Tensor) -> None:
        """One call's inputs [..., in] and output gradients [..., out]; reduced once all calls have come."""
        self._reached = True
        rows, columns = self._shape.by_sample(inputs), self._shape.by_sample(gradients)
        if rows is None or columns is None:
            self._lost_shape = tuple(inputs.shape)
            return
        self._pending.append((_at_least_float32(rows), _at_least_float32(columns)))
        if len(self._pending) == self._calls:
            self._reduce()

    def finish(self, batch: int) -> None:
        """The backward pass is over. Raises `NonFiniteError` where a gradient was not finite."""
        if self._pending:  # some calls' outputs do not reach the loss
            self._reduce()
        elif not self._reduced:
            for size in self._segments(self._shape.samples):
                self._add([0.0] * size, None)
        if not math.isfinite(self._squares + self._weight_gradients):
            raise NonFiniteError(
                f"the gradient of {self.name} is not finite in batch {batch}; look at that batch's data, "
                "or load the model in float32"
            )

    def _reduce(self) -> None:
        inputs = torch.cat([rows for rows, _ in self._pending], dim=1)
        gradients = torch.cat([columns for _, columns in self._pending], dim=1)
        self._pending.clear()
        self._reduced = True
        if self.directions is not None:
            self.directions.add(inputs, gradients)
        start = 0
        for size in self._segments(len(inputs)):
            self._reduce_segment(inputs[start : start + size], gradients[start : start + size])
            start += size

    def _segments(self, samples: int) -> list[int]:
        """Sizes of the runs of consecutive samples that lie in one group each."""
        sizes, room = [], self.group - self._in_group
        while samples > 0:
            sizes.append(min(samples, room))
            samples, room = samples - sizes[-1], self.group
        return sizes

    def _reduce_segment(self, inputs: Tensor, gradients: Tensor) -> None:
        route = self.route or cheaper(len(inputs), inputs.shape[1], inputs.shape[2], gradients.shape[2])
        if route == "gram" and len(inputs) == self.group and self.weight is None:
            inner = gram_products(inputs, gradients)
            norms = inner.diagonal().tolist()
            self._count(norms)
            self._close(norms, float(inner.sum()), 0.0)
        else:
            per_sample = per_sample_gradients(inputs, gradients)
            total = per_sample.sum(dim=0)
            self._add(squared_norms(per_sample).tolist(), total)

    def _add(self, norms: Sequence[float], total: Tensor | None) -> None:
        """Samples within one group: their squared norms, and the sum of their gradients (None where zero)."""
        self._count(norms)
        if self._carried is not None:
            total = self._carried if total is None else self._carried + total
        squares = [*norms, self._carried_squares]
        self._in_group += len(norms)
        if self._in_group < self.group:
            self._carried, self._carried_squares = total, math.fsum(squares)
            return
        product = 0.0
        if self.weight is not None and total is not None:
            product = float((self.weight.to(total) * total).abs().mean(dtype=torch.float64)) / self.group
        self._close(squares, float(squared_norms(total)) if total is not None else 0.0, product)

    def _count(self, norms: Sequence[float]) -> None:
        self._squares += math.fsum(norms)
        self._fourths += math.fsum(norm * norm for norm in norms)

    def _close(self, squares: Sequence[float], norm_of_sum: float, product: float) -> None:
        """A group is full: ‖ḡ‖² is ‖Σ gᵢ‖² / group²."""
        self._groups += 1
        self._group_squares += norm_of_sum / self.group**2
        self._grouped_squares += math.fsum(squares)
        self._weight_gradients += product
        self._in_group, self._carried, self._carried_squares = 0, None, 0.0

    @property
    def why_unscored(self) -> str | None:
        """Why the module has no score, or None where it has one."""
        if not self._called:
            return "never called in the forward pass"
        if self._lost_shape is not None:
            return f"its inputs {self._lost_shape} have lost the batch dimension; profile with micro_batch=1"
        return None if self._reached else "its output does not reach the loss"

    def statistics(self, samples: int, weights: int, spectrum: tuple[float, ...]) -> ModuleStatistics:
        """The sums so far, over this many samples, for a module with this many weights."""
        return ModuleStatistics(
            module=self.name,
            weights=weights,
            samples=samples,
            groups=self._groups,
            group_size=self.group,
            sum_squared_norm=self._squares,
            sum_fourth_power=self._fourths,
            sum_group_squared_norm=self._group_squares,
            sum_grouped_squared_norm=self._grouped_squares,
            sum_weight_gradient=self._weight_gradients if self.weight is not None else None,
            spectrum=spectrum,
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
