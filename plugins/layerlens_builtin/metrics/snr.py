"""Signal to noise in the weights, as Spectrum takes it (Hartford and others, arXiv 2406.06623): no data needed.

    ε = IQR(S) / 1.349 · (1 + √β)        SNR = (Σ of S > ε) / (Σ of S ≤ ε) / S₀

S are W's singular values, S₀ the largest, IQR the distance of their quartiles, β = min(in, out) / max(in, out). ε is
where Marchenko and Pastur put the largest singular value of noise. Spectrum trains what has the largest SNR among the
modules of a type. The unit is 1/weight.

Limits: it says the same for every task. The division by S₀ makes it depend on the scale of W. Where nothing lies below
ε, which Spectrum calls infinite, the smallest singular value counts as the noise.
"""

import math

import torch
from torch import Tensor

from layerlens_builtin.metrics.spectra import singular_values
from layerlens_core.plugin import ActiveProfile


def score(context: ActiveProfile) -> dict[str, float]:
    """Every module's signal to noise. Raises `ModelError` where a weight cannot be read."""
    shape = {module.name: sorted((module.in_features, module.out_features)) for module in context.inventory.modules}
    return {name: signal_to_noise(values, *shape[name]) for name, values in singular_values(context)}


def signal_to_noise(values: Tensor, short: int, long: int) -> float:
    """Of a matrix with these singular values, descending; 0 where it is zero.

    values: [short], float64.
    short: the smaller one of the matrix's two sides.
    long: the larger one.
    """
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=values.dtype, device=values.device)).tolist()
    edge = (high - low) / 1.349 * (1 + math.sqrt(short / long))
    largest, noise = float(values[0]), float(values[values <= edge].sum())
    signal = float(values[values > edge].sum())
    if noise == 0:  # nothing below, or exact zeros
        noise = float(values[values > 0][-1]) if largest else 1.0
    return signal / noise / largest if largest else 0.0
