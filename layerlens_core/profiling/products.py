"""Exact norms of per-sample gradients of a linear module, by two routes.

For sample i with inputs aᵢ [T, in] and output gradients bᵢ [T, out] the weight gradient is gᵢ = bᵢᵀ aᵢ. Needed for
a group of samples are ‖gᵢ‖² and ‖Σ gᵢ‖².

direct  form gᵢ: 2·T·in·out operations a sample, and the gradient is there for whoever needs it;
gram    ⟨gᵢ, gⱼ⟩ = Σₜₛ (aᵢₜ·aⱼₛ)(bᵢₜ·bⱼₛ): two Gram matrices over all tokens of the group, and never an
        [out, in] matrix. The norm of the sum is the sum of all inner products.

Dropping the terms t ≠ s, a common approximation, is wrong.
"""

from typing import Literal

import torch
from torch import Tensor

Route = Literal["direct", "gram"]


def cheaper(samples: int, tokens: int, inputs: int, outputs: int) -> Route:
    """The route with fewer multiplications for a group of ``samples`` of ``tokens`` each."""
    direct = samples * tokens * inputs * outputs
    gram = (samples * tokens) ** 2 * (inputs + outputs)
    return "direct" if direct <= gram else "gram"


def gram_products(inputs: Tensor, gradients: Tensor) -> Tensor:
    """⟨gᵢ, gⱼ⟩ [samples, samples] in float64, from inputs [samples, T, in] and gradients [samples, T, out]."""
    samples, tokens = inputs.shape[:2]
    rows, columns = inputs.flatten(0, 1), gradients.flatten(0, 1)
    together = (rows @ rows.T) * (columns @ columns.T)
    return together.view(samples, tokens, samples, tokens).sum(dim=(1, 3), dtype=torch.float64)


def per_sample_gradients(inputs: Tensor, gradients: Tensor) -> Tensor:
    """gᵢ [samples, out, in] from inputs [samples, T, in] and output gradients [samples, T, out]."""
    return gradients.transpose(1, 2) @ inputs


def squared_norms(matrices: Tensor) -> Tensor:
    """Squared Frobenius norms [...] in float64 of matrices [..., out, in].

    Rows are summed in the matrices' own precision, and the row sums in float64: one float32 sum over a large
    matrix loses three digits.
    """
    return matrices.square().sum(dim=-1).sum(dim=-1, dtype=torch.float64)
