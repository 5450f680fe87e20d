"""Gradient energy: how strongly a group of samples pulls at a module."""

from layerlens_core.plugin import ModuleStatistics


def score(statistics: ModuleStatistics) -> float:
    """Mean over groups of ‖ḡ‖²_F, ḡ the mean gradient of a group of declared size."""
    return statistics.gradient_energy
