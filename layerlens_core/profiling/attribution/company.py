"""Whether a sample's loss depends on its padding, or on what else is in the batch: tried, not taken from a list.

A short sample is run alone, and beside a long one that it is padded to. Where the terms of its loss differ by more than
rounding, padding is not inert in this model (FNet transforms it, ConvBERT's convolutions see it), or the samples of a
batch meet (batch statistics, experts with a capacity). Then it is run beside one of its own length. Rounding is
measured too, as what changes when a sample is run beside itself.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from layerlens_core.profiling.model.losses import Terms
from layerlens_core.profiling.samples.sample import Sample, cut_to, shapes

#: How samples may share a batch: padded to the longest; only those of one length; not at all.
Company = Literal["padded", "equal lengths", "alone"]

#: Runs samples as one batch.
Run = Callable[[Sequence[Sample]], Terms]

#: Rounding is what changes when a sample is run beside itself, this many times, unless that is more than rounding.
_NOISE, _STILL_NOISE = 3.0, 10.0
#: In any case differences up to this share of the terms are, by the precision of the weights.
_FLOORS = {torch.float64: 1e-9, torch.float32: 1e-5}
_COARSE = 1e-2


def company(run: Run, short: Sample, long: Sample, dtype: torch.dtype) -> Company:
    """How samples may share a batch of this model.

    run: the model.
    short: a sample.
    long: another one, as long or longer.
    dtype: of the weights.
    """
    alone = _terms(run([short]), 0)
    twice = _terms(run([short, short]), 1)
    floor = _FLOORS.get(dtype, _COARSE) * float(alone.square().mean().sqrt().clamp(min=1))
    noise = _distance(alone, twice)
    rounding = floor + _NOISE * noise if noise <= _STILL_NOISE * floor else floor

    def inert(beside: Sample) -> bool:
        found = _terms(run([beside, short]), 1)
        return found.shape == alone.shape and _distance(found, alone) <= rounding

    if inert(long):
        return "padded"
    if shapes(long) != shapes(short):
        beside = cut_to(long, short)
        if beside is not None and inert(beside):
            return "equal lengths"
    return "alone"


def _terms(terms: Terms, sample: int) -> Tensor:
    """The labelled terms of one sample."""
    values = terms.values[sample].detach()
    return values[terms.labelled[sample].to(values.device)].double()


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt()) if one.shape == other.shape and len(one) else float("inf")
