"""The score of one module from its statistics; a pure function."""

from layerlens_core.plugin import ModuleStatistics


def score(statistics: ModuleStatistics) -> float:
    """The mean squared norm of a sample's gradient, over the number of weights; in (nats/weight)²/weight."""
    return statistics.fisher / statistics.weights
