"""Singular values of the mean gradient, against the full SVD of the plain loop's, and what they do to gains."""

import itertools

import pytest
import torch

import zoo
from layerlens_builtin.methods.lora import METHOD as LORA
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.build import coverage
from layerlens_core.allocation.problem import pose
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, reference, samples


@pytest.mark.parametrize("micro_batch", [1, 4])
@pytest.mark.parametrize("others", [(), ("gradient_norms", "weight_gradient")])
def test_it_is_the_spectrum_of_the_mean_gradient(family, others, micro_batch):
    """Alone, and where gradients are formed for other metrics."""
    model, data = build(family), samples(family)
    targets = inspect(model).modules
    measured = measure(
        model, targets, data, family.task, Settings(needs=("spectrum", *others), micro_batch=micro_batch)
    )
    truth = reference(model, [t.name for t in targets], data)
    for statistics in measured.statistics:
        expected = torch.linalg.svdvals(truth[statistics.module].mean(dim=0)).tolist()
        *leading, rest = statistics.spectrum
        assert leading == pytest.approx(expected, rel=1e-8, abs=1e-12 * expected[0])
        assert rest == 0.0  # no module here has more than 64


def test_gains_by_rank_follow_it_and_are_concave():
    family = zoo.find("llama")
    run = profile(build(family), samples(family), spectrum=True)
    problem = pose(run, allocate(run, margins=False).request)
    spectra = {s.module: s.spectrum for s in run.statistics}
    for unit in problem.candidates.units:
        names = [target.name for target in unit.targets["lora"]]
        total = sum(sum(spectra[name]) for name in names)
        gains = [0.0, *(candidate.gain for candidate in unit.candidates_of("lora"))]
        for rank in (1, 5, 20):
            share = sum(sum(spectra[name][:-1][:rank]) for name in names) / total
            assert gains[rank] == pytest.approx(unit.utility * share)
        steps = [b - a for a, b in itertools.pairwise(gains)]
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(steps))


def test_without_it_the_curve_of_the_method_serves():
    family = zoo.find("llama")
    run = profile(build(family), samples(family))
    assert all(statistics.spectrum == () for statistics in run.statistics)
    problem = pose(run, allocate(run, margins=False).request)
    unit = problem.candidates.units[0]
    assert unit.candidates_of("lora")[7].gain == pytest.approx(unit.utility * coverage(LORA, 8))
