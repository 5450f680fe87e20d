"""Empirical Fisher information of a module's weights."""

from layerlens_core.plugin import ModuleStatistics


def score(statistics: ModuleStatistics) -> float:
    """Trace of the empirical Fisher information: mean over samples of ‖gᵢ‖²_F."""
    return statistics.fisher
