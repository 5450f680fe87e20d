"""Sketched norms: unbiased, with intervals that cover, the same however samples are batched; and 16-bit models."""

import math

import pytest
import torch

import zoo
from layerlens_core.errors import DataError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.routes import Wanted, reduce
from layerlens_core.profiling.gradients.sketches import Projector, Sketched, column_squares, random_signs
from layerlens_core.values.statistics import SketchError
from zoo.profiled import build, samples

CPU = torch.device("cpu")


def splitmix(key: int, count: int) -> list[int]:
    """The generator, by its definition."""
    mask, found = 2**64 - 1, []
    for i in range(1, count + 1):
        z = (key + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        found.append(z ^ (z >> 31))
    return found


@pytest.mark.parametrize("columns", [2, 32, 64, 70])
def test_signs_are_bits_of_splitmix64(columns):
    words = -(-columns // 64)
    expected = splitmix(-12345, 9 * words)
    bits = [
        [1 if expected[row * words + c // 64] >> (c % 64) & 1 else -1 for c in range(columns)] for row in range(9)
    ]  # fmt: skip
    assert random_signs(-12345, 9, columns, CPU).tolist() == bits


def test_signs_are_balanced_and_uncorrelated():
    signs = random_signs(7, 4096, 32, CPU).double()
    assert float(signs.mean().abs()) < 4 / math.sqrt(signs.numel())
    between = signs.T @ signs / 4096 - torch.eye(32)
    assert float(between.abs().max()) < 5 / math.sqrt(4096)


def drawn(samples: int, tokens: int, rank: int | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [samples, tokens, 24] and output gradients [samples, tokens, 17] in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, tokens if rank is None else rank, 24, generator=generator, dtype=torch.float64)
    d = torch.randn(samples, tokens if rank is None else rank, 17, generator=generator, dtype=torch.float64)
    return x, d


def sketched(x, d, *, groups: int, seed: int, columns: int = 32) -> Sketched:
    projector = Projector(columns=columns, seed=seed)
    projector.begin_forward(range(groups))
    return Sketched.of(*column_squares(projector.project(x, x), d, len(x) // groups))


def exact(x, d, group: int):
    wanted = Wanted(sample_squared_norms=True, group_sum_squared_norms=True, group_sums=False)
    return reduce(Rows(x), Rows(d), group_size=group, wanted=wanted, route="group-gram")


def test_what_is_sketched_is_the_gradient_times_the_signs():
    x, d = drawn(6, 5, None)
    projector = Projector(columns=8, seed=3)
    projector.begin_forward((4, 1, 7))
    singly, together = column_squares(projector.project(x, x), d, 2)
    for group, number in enumerate((4, 1, 7)):
        omega = random_signs(projector._key(number, 24), 24, 8, CPU).double()
        gradients = [d[i].T @ x[i] @ omega for i in (2 * group, 2 * group + 1)]
        for i, gradient in enumerate(gradients):
            assert torch.allclose(singly[2 * group + i], gradient.square().sum(dim=0), rtol=1e-12)
        assert torch.allclose(together[group], sum(gradients).square().sum(dim=0), rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 4, 20])
def test_sketches_are_unbiased(rank):
    x, d = drawn(4, 0, rank)
    truth = exact(x, d, 2)
    trials = [sketched(x, d, groups=2, seed=seed) for seed in range(600)]
    for name, expected in (
        ("sample_squared_norms", truth.sample_squared_norms),
        ("group_sum_squared_norms", truth.group_sum_squared_norms),
    ):
        found = torch.stack([getattr(trial, name) for trial in trials])
        error = found.std(dim=0) / math.sqrt(len(trials))
        assert bool(((found.mean(dim=0) - expected).abs() < 4 * error).all()), name
    # and the variance that they tell of themselves is the one that they have
    for told, name in (("variances", "sample_squared_norms"), ("group_variances", "group_sum_squared_norms")):
        values = torch.stack([getattr(trial, name) for trial in trials])
        values = values.view(len(trials), 2, -1).sum(dim=2)
        ratio = torch.stack([getattr(trial, told) for trial in trials]).mean(dim=0) / values.var(dim=0)
        assert bool(((ratio > 0.75) & (ratio < 1.33)).all()), told


@pytest.mark.parametrize(("rank", "groups", "least"), [(1, 1, 0.91), (1, 8, 0.925), (6, 1, 0.925), (12, 4, 0.93)])
def test_intervals_cover_at_the_stated_rate(rank, groups, least):
    x, d = drawn(2 * groups, 0, rank, seed=rank)
    truth = exact(x, d, 2)
    covered, trials = 0, 800
    for seed in range(trials):
        found = sketched(x, d, groups=groups, seed=seed)
        variance = float(found.variances.sum())
        freedom = 31 * variance**2 / float(found.variances.square().sum())
        low, high = SketchError(variance, freedom).interval(float(found.sample_squared_norms.sum()))
        covered += low <= float(truth.sample_squared_norms.sum()) <= high
    # 95 % is stated, 93 % for one group of rank one; two standard errors of 800 trials are 1.6 %.
    assert least <= covered / trials <= 0.985


def test_an_exact_value_is_its_own_interval():
    assert SketchError(0.0, 1.0).interval(3.0) == (3.0, 3.0)
    low, high = SketchError(0.25, 1e9).interval(2.0)
    assert (low, high) == pytest.approx((2 * math.exp(-0.489991), 2 * math.exp(0.489991)), rel=1e-5)


def test_a_sketched_pass_of_a_model(family):
    """Near the exact statistics, by what it says of itself, and the same for all micro-batches."""
    model, data = build(family), samples(family, count=7)
    targets = inspect(model).modules
    options = {"needs": ("gradient_norms",), "group_size": 2}
    truth = {s.module: s for s in measure(model, targets, data, family.task, Settings(**options)).statistics}
    runs = [
        measure(model, targets, data, family.task, Settings(sketch_columns=32, micro_batch=size, **options)).statistics
        for size in (1, 2, 5, 8)
    ]
    assert {s.module for s in runs[0]} == set(truth)
    inside = 0
    for statistics in runs[0]:
        low, high = statistics.fisher_interval
        inside += low <= truth[statistics.module].fisher <= high
        assert statistics.fisher == pytest.approx(truth[statistics.module].fisher, rel=0.8)
        low, high = statistics.gradient_energy_interval
        assert low <= statistics.gradient_energy <= high
    assert inside >= 0.7 * len(runs[0])
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert one.fisher == pytest.approx(two.fisher, rel=1e-9)
            assert one.gradient_energy == pytest.approx(two.gradient_energy, rel=1e-9)
            assert one.fisher_interval == pytest.approx(two.fisher_interval, rel=1e-7)


@pytest.mark.parametrize("reentrant", [False, True])
def test_sketches_under_checkpointing(reentrant):
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=4)
    targets = inspect(model).modules
    plain = measure(model, targets, data, family.task, Settings(needs=("gradient_norms",), sketch_columns=16))
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    again = measure(model, targets, data, family.task, Settings(needs=("gradient_norms",), sketch_columns=16))
    for one, two in zip(plain.statistics, again.statistics, strict=True):
        assert one.fisher == pytest.approx(two.fisher, rel=1e-10)


def test_what_sketches_do_not_give_is_refused():
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=4)
    for options in ({"needs": ("weight_gradient",)}, {"needs": ("sample_norms",), "directions": True}):
        with pytest.raises(DataError, match="sketches"):
            measure(model, inspect(model).modules, data, family.task, Settings(sketch_columns=32, **options))


@pytest.mark.parametrize("route", ["group-gram", "direct", "mixed"])
def test_16_bit_operands_are_summed_in_float32(route):
    """On the same bfloat16 tensors, against float64 arithmetic."""
    generator = torch.Generator().manual_seed(0)
    x, d = (torch.randn(4, 40, width, generator=generator).bfloat16() for width in (96, 80))
    wanted = Wanted(sample_squared_norms=True, group_sum_squared_norms=True, group_sums=False)
    found = reduce(Rows(x), Rows(d), group_size=2, wanted=wanted, route=route)
    truth = exact(x.double(), d.double(), 2)
    assert found.sample_squared_norms.tolist() == pytest.approx(truth.sample_squared_norms.tolist(), rel=2e-6)
    assert found.group_sum_squared_norms.tolist() == pytest.approx(truth.group_sum_squared_norms.tolist(), rel=2e-6)


def test_a_bfloat16_model_keeps_its_tensors_and_sums_them_wide(monkeypatch):
    family = zoo.find("llama")
    model, data = build(family).to(torch.bfloat16), samples(family, count=4)
    targets = inspect(model).modules
    from layerlens_core.profiling.engine import recorder

    seen: list[tuple[torch.Tensor, torch.Tensor, int]] = []
    plain = recorder.reduce  # type: ignore[attr-defined]

    def spied(inputs, gradients, **options):
        seen.append((inputs.rows.clone(), gradients.rows.clone(), options["group_size"]))
        return plain(inputs, gradients, **options)

    monkeypatch.setattr(recorder, "reduce", spied)
    measured = measure(model, targets, data, family.task, Settings(needs=("gradient_norms",), micro_batch=4))
    assert all(x.dtype == d.dtype == torch.bfloat16 for x, d, _ in seen)
    sums = sorted(s.sum_squared_norm for s in measured.statistics)
    truth = sorted(float(exact(x.double(), d.double(), group).sample_squared_norms.sum()) for x, d, group in seen)
    assert sums == pytest.approx(truth, rel=2e-6)
