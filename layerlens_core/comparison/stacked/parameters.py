"""The trained parameters of K arms, a row each, and their optimizer."""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from attrs import define, frozen
from torch import Tensor

from layerlens_core.comparison.stacked.schedule import factor
from layerlens_core.profiling.model.vocabulary_head import at_least_float32
from layerlens_core.values.comparison import Schedule

#: Those of the Trainer.
BETAS, EPSILON, WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.0
#: What `torch.nn.utils.clip_grad_norm_` adds to a norm before it divides by it.
_ABOVE_ZERO = 1e-6


@frozen(eq=False)
class Slot:
    """A tensor's place in the rows.

    start: of its first entry.
    shape: of the tensor.
    """

    start: int
    shape: tuple[int, ...]

    def of(self, rows: Tensor) -> Tensor:
        """The tensor of every arm [K, *shape], as a view of rows [K, P]."""
        return rows[:, self.start : self.start + prod(self.shape)].view(len(rows), *self.shape)


@define(eq=False)
class Parameters:
    """Rows [K, P] of what K arms train. Arms that are smaller than others have zeros, which stay zero.

    slots: by name, where a tensor lies.
    values: at least in float32.
    working: what the model computes with, in its dtype; the values themselves where that is the same.
    gradients: of the sum of all arms' losses by the working copy, to which the backward pass adds.
    diverged: which arms had a gradient that was not finite [K]; these no longer move.
    """

    slots: Mapping[str, Slot]
    values: Tensor
    working: Tensor
    gradients: Tensor
    diverged: Tensor
    optimizer: torch.optim.AdamW

    @classmethod
    def of(
        cls, shapes: Mapping[str, tuple[int, ...]], arms: int, dtype: torch.dtype, device: torch.device
    ) -> "Parameters":
        """Zeros.

        shapes: by name, of the tensors.
        arms: K.
        dtype: that the model computes in.
        device: that it computes on.
        """
        slots, start = {}, 0
        for name, shape in shapes.items():
            slots[name] = Slot(start, shape)
            start += prod(shape)
        values = at_least_float32(torch.zeros(arms, start, dtype=dtype, device=device))
        working = values if values.dtype == dtype else values.to(dtype)
        # A group for each arm, since arms differ in their rates.
        groups = [{"params": [torch.nn.Parameter(row)]} for row in values]
        optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True)
        diverged = torch.zeros(arms, dtype=torch.bool, device=device)
        return cls(slots, values, working, torch.zeros_like(working), diverged, optimizer)

    def written(self) -> None:
        """Call it after a change of the values: the model computes with them from now on."""
        if self.working is not self.values:
            self.working.copy_(self.values)

    def forget(self, arms: slice) -> None:
        """Drop what the backward pass has added to some arms' gradients."""
        self.gradients[arms].zero_()

    @torch.no_grad()
    def step(self, at: int, rates: Sequence[float], schedule: Schedule) -> None:
        """One step of AdamW with every arm's gradient clipped by itself. The gradients are zero afterwards.

        at: number of the step, from 0.
        rates: largest rate of each arm [K].
        schedule: how rates change, and the norm to clip at.
        """
        gradients = self.gradients.to(self.values.dtype)
        norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
        self.diverged |= ~norms.isfinite()
        if schedule.clip:
            gradients *= (schedule.clip / (norms + _ABOVE_ZERO)).clamp(max=1.0).to(gradients.dtype)[:, None]
        gradients.masked_fill_(self.diverged[:, None], 0.0)
        now = factor(at, schedule)
        for group, rate, gradient in zip(self.optimizer.param_groups, rates, gradients, strict=True):
            group["lr"] = rate * now
            group["params"][0].grad = gradient
        self.optimizer.step()
        self.gradients.zero_()
        self.written()
