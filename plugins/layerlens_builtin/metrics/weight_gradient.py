"""Sensitivity of the loss to the weights in place: GoRA's importance (arXiv 2502.12171)."""

from layerlens_core.plugin import ModuleStatistics


def score(statistics: ModuleStatistics) -> float:
    """Mean over groups of mean |W ⊙ ḡ|: |wₖ ∂ℓ/∂wₖ| is the first-order change of ℓ when wₖ is set to 0."""
    return statistics.weight_gradient
