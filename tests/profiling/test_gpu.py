"""On a GPU the engine gives what it gives on the CPU."""

import pytest
import torch

from layerlens_core.adaptation.inspect import inspect
from layerlens_core.profiling.engine import measure
from layerlens_core.statistics import STATISTICS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_device_changes_no_score(family, build, samples):
    model, data = build(family, torch.float32), samples(family)
    targets = inspect(model).modules
    cpu = measure(model, targets, data, family.task, needs=tuple(STATISTICS)).statistics
    gpu = measure(model.cuda(), targets, data, family.task, needs=tuple(STATISTICS)).statistics
    for a, b in zip(cpu, gpu, strict=True):
        assert b.fisher == pytest.approx(a.fisher, rel=1e-4)
        assert b.gradient_energy == pytest.approx(a.gradient_energy, rel=1e-4)
        assert b.weight_gradient == pytest.approx(a.weight_gradient, rel=1e-4)
