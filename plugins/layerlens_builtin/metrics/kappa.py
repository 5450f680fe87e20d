"""How far weights are from being singular, after KappaTune (Ludwig 2025; in PEFT `KappaTuneSelector`): no data needed.

KappaTune trains the modules with the lowest condition number κ = S₀ / (S₋₁ + 1e-8), S₀ and S₋₁ the largest and the
smallest singular value of W, since these are said to have room and to forget least. A larger score has to mean more
worth here, so the score is

    1 / κ = (S₋₁ + 1e-8) / S₀

The unit is 1: 1 where W stretches all directions alike, about 0 where it is singular. The order is KappaTune's.

Limits: it says the same for every task; of square matrices the smallest singular value is mostly chance, and of others
larger by their shape alone.
"""

from torch import Tensor

from layerlens_builtin.metrics.spectra import singular_values
from layerlens_core.plugin import ActiveProfile


def score(context: ActiveProfile) -> dict[str, float]:
    """1/κ of every module. Raises `ModelError` where a weight cannot be read."""
    return {name: evenness(values) for name, values in singular_values(context)}


def evenness(values: Tensor) -> float:
    """Of a matrix with these singular values, descending; 0 where it is zero."""
    largest = float(values[0])
    return (float(values[-1]) + 1e-8) / largest if largest else 0.0
