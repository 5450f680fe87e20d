"""Effective rank of the mean gradient, as RaLoRA takes it (ICLR 2026, after Roy and Vetterli 2007).

    exp(−Σ p ln p),  p = σ / Σσ,  σ the singular values of the mean gradient Ḡ over all samples

The unit is directions: 1 where all of Ḡ lies in one, min(in, out) where it lies in all alike.

Limits: the noise of few samples spreads over all directions and raises it, so that only profiles of equally many
samples compare. Ḡ is formed whole and decomposed in full, which takes seconds a module from a width of 4,096 on.
"""

import torch
from torch import Tensor

from layerlens_core.plugin import ActiveProfile, mean_gradients


def score(context: ActiveProfile) -> dict[str, float]:
    """The effective rank of every module's mean gradient. Raises `NonFiniteError`."""
    return {name: effective_rank(torch.linalg.svdvals(gradient)) for name, gradient in mean_gradients(context)}


def effective_rank(values: Tensor) -> float:
    """Of a matrix with these singular values; 0 where it is zero."""
    total = values.double().sum()
    if total == 0:
        return 0.0
    shares = values.double() / total
    return float(torch.special.entr(shares).sum().exp())
