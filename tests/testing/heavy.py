"""A provider whose module imports torch as it is imported."""

import torch

from layerlens_core.plugin import MetricProvider


def size(statistics):
    return float(torch.tensor(statistics.weights))


HEAVY = MetricProvider(name="heavy", summary="weights", unit="weights", reduction="sum", load=lambda: size)
