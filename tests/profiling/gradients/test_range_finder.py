"""The range finder against the full SVD of the exact mean gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients.range_finder import RangeFinder, sum_from_squares
from zoo.profiled import reference, samples


def shares(gradient, vectors, ranks):
    """Of what the best r directions hold of ‖G‖²_F, the share that the found ones hold; 1 is best."""
    best = torch.linalg.svdvals(gradient.double()).square()
    held = (gradient.double() @ vectors.double().T).square().sum(dim=0)
    return [float(held[:r].sum() / best[:r].sum()) for r in ranks]


def feed(finder, inputs, gradients, batches):
    for x, d in zip(inputs.chunk(batches), gradients.chunk(batches), strict=True):
        finder.add(x, d)
    return finder


def tokens(decay, *, count, width, height, seed=0):
    """Inputs and output gradients whose product has singular values that fall like i^-decay, and a flat tail."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=torch.float64))[0]
    right = torch.randn(count, width, generator=generator, dtype=torch.float64) / math.sqrt(width)
    weights = torch.arange(1, count + 1, dtype=torch.float64) ** -decay
    down = torch.randn(count, height, generator=generator, dtype=torch.float64) / math.sqrt(height)
    return left @ (weights[:, None] * right), left @ down


@settings(max_examples=15)
@given(rank=st.integers(1, 8), batches=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_gradient_of_low_rank_is_found_exactly(rank, batches, seed):
    x, d = tokens(0.5, count=rank, width=280, height=300, seed=seed)
    pad = torch.zeros(10, 1, dtype=torch.float64)
    x, d = (torch.cat([part, pad.expand(-1, part.shape[1])]) for part in (x, d))
    finder = RangeFinder(name="m", inputs=280, outputs=300, rank=8, seed=seed)
    assert not finder.exact
    found = feed(finder, x, d, batches).find(samples=3)
    gradient = d.T @ x / 3
    columns, values, vectors = torch.linalg.svd(gradient, full_matrices=False)
    assert found.values.tolist() == pytest.approx(values[:8].tolist(), rel=1e-8, abs=1e-10 * float(values[0]))
    alignment = (found.right[:rank].double() @ vectors[:rank].T).square().sum(dim=1)
    assert alignment.tolist() == pytest.approx([1.0] * rank, abs=1e-6)
    alignment = (found.left[:rank].double() @ columns[:, :rank]).square().sum(dim=1)
    assert alignment.tolist() == pytest.approx([1.0] * rank, abs=1e-6)
    again = (found.left.double().T * found.values) @ found.right.double()  # so signs belong together
    assert float((again - gradient).norm()) <= 1e-6 * float(gradient.norm())
    assert found.outside <= 1e-9 * float(values.square().sum())


@pytest.mark.parametrize(("decay", "least"), [(0.5, 0.80), (1.0, 0.97), (2.0, 0.999)])
def test_the_leading_subspace_holds_almost_what_the_best_one_does(decay, least):
    x, d = tokens(decay, count=500, width=700, height=600)
    finder = feed(RangeFinder(name="m", inputs=700, outputs=600, rank=64), x, d, 4)
    assert not finder.exact
    found, gradient = finder.find(1), d.T @ x
    assert min(shares(gradient, found.right, (1, 4, 16, 64))) >= least
    assert min(shares(gradient.T, found.left, (1, 4, 16, 64))) >= least
    for side, width in ((found.left, 600), (found.right, 700)):
        assert (side.shape, side.dtype) == ((64, width), torch.float32)
        assert (side @ side.T - torch.eye(64)).abs().max() < 1e-5
    outside = float((gradient - gradient @ found.right.double().T @ found.right.double()).square().sum())
    assert found.outside == pytest.approx(outside, rel=0.3)  # 16 held-out rows
    values = torch.linalg.svdvals(gradient)
    assert found.rest == pytest.approx(float(values[64:].sum()), rel=0.5)


@settings(max_examples=25)
@given(
    exact=st.booleans(),
    decay=st.sampled_from([0.5, 1.0, 2.0]),
    rank=st.integers(1, 12),
    batches=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_left_and_right_vectors_are_those_of_the_full_decomposition(exact, decay, rank, batches, seed):
    """By what they leave of G, and term by term, weighted by singular values, which no sign can cheat."""
    x, d = tokens(decay, count=120, width=400, height=420, seed=seed)
    finder = feed(RangeFinder(name="m", inputs=400, outputs=420, rank=rank, seed=seed, formed=exact), x, d, batches)
    assert finder.exact == exact
    found, gradient = finder.find(1), d.T @ x
    columns, values, rows = torch.linalg.svd(gradient, full_matrices=False)
    left, right = found.left.double(), found.right.double()
    for side in (left, right):
        assert (side @ side.T - torch.eye(rank)).abs().max() < 1e-5
    between = left @ gradient @ right.T
    terms = between.diagonal() / values[:rank]
    weighted = float((terms * values[:rank]).sum() / values[:rank].sum())
    outside = float((gradient - left.T @ between @ right).square().sum())
    best = float(values[rank:].square().sum())
    energy = float(values.square().sum())
    if exact:
        assert weighted == pytest.approx(1, abs=1e-5)
        assert (between - torch.diag(values[:rank])).abs().max() <= 1e-5 * float(values[0])
        assert outside <= best + 1e-5 * energy
        truth = columns[:, :rank] * values[:rank] @ rows[:rank]
        assert float(((left.T * found.values) @ right - truth).norm()) <= 1e-4 * float(values[0])
    else:
        assert weighted >= {0.5: 0.7, 1.0: 0.95, 2.0: 0.999}[decay]
        assert outside <= best + {0.5: 0.2, 1.0: 0.03, 2.0: 0.001}[decay] * energy


def test_rows_and_gradients_of_two_dtypes_add_up():
    """Where rows have 16 bits, gradients that were formed of them have 32; which is sketched may change by batch."""
    x, d = tokens(1.0, count=60, width=280, height=300)
    whole, mixed = (RangeFinder(name="m", inputs=280, outputs=300, rank=4) for _ in range(2))
    whole.add(x, d)
    mixed.add(x[:30].float(), d[:30].float())
    mixed.add_gradient(d[30:].T @ x[30:])
    assert not whole.exact
    for found, expected in zip(mixed.sums, whole.sums, strict=True):
        assert torch.allclose(found.double(), expected, atol=1e-4 * float(expected.abs().max()))


def test_a_small_module_is_decomposed_in_full():
    x, d = tokens(0.5, count=50, width=40, height=300)
    finder = feed(RangeFinder(name="m", inputs=40, outputs=300, rank=16), x, d, 3)
    assert finder.exact
    found = finder.find(2)
    values = torch.linalg.svdvals(d.T @ x / 2)
    assert found.exact
    assert (found.left.shape, found.right.shape) == ((16, 300), (16, 40))
    assert found.values.tolist() == pytest.approx(values[:16].tolist(), rel=1e-10)
    assert found.rest == pytest.approx(float(values[16:].sum()), rel=1e-10)


@pytest.mark.parametrize("formed", [False, True])
def test_gradients_that_were_formed_give_what_rows_give(formed):
    x, d = tokens(1.0, count=60, width=250, height=300)
    by_rows, by_gradients = (RangeFinder(name="m", inputs=250, outputs=300, rank=4, formed=formed) for _ in range(2))
    assert by_rows.exact == formed  # between two and four times as large as its sketches
    for a, b in zip(x.chunk(3), d.chunk(3), strict=True):
        total = by_gradients.total(b)
        total += b.T @ a
        by_gradients.add_gradient(total)
        by_rows.add(a, b)
    for found, expected in zip(by_gradients.sums, by_rows.sums, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10)
    with pytest.raises(ValueError, match="do not add up"):
        by_rows.merge(RangeFinder(name="m", inputs=250, outputs=300, rank=4, formed=not formed))


def test_workers_sums_add_up_and_the_seed_decides():
    x, d = tokens(1.0, count=60, width=220, height=300)
    finder = {"name": "m", "inputs": 220, "outputs": 300, "rank": 4}
    whole = feed(RangeFinder(**finder), x, d, 1).find(1)
    first, second = (feed(RangeFinder(**finder), a, b, 1) for a, b in zip(x.chunk(2), d.chunk(2), strict=True))
    first.merge(second)
    assert torch.allclose(first.find(1).values, whole.values, rtol=1e-10)
    assert torch.allclose(first.find(1).right, whole.right, atol=1e-6)
    assert torch.equal(feed(RangeFinder(**finder), x, d, 1).find(1).right, whole.right)
    assert not torch.equal(feed(RangeFinder(**finder, seed=1), x, d, 1).find(1).right, whole.right)
    with pytest.raises(ValueError, match="do not add up"):
        first.merge(RangeFinder(**finder, seed=1))


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=50))
def test_the_sum_of_what_is_left_out_lies_within_its_bounds(numbers):
    squares, largest = sum(x * x for x in numbers), max(numbers)
    estimate = sum_from_squares(squares, largest=largest, count=len(numbers))
    assert squares / largest * (1 - 1e-9) <= estimate <= math.sqrt(len(numbers) * squares) * (1 + 1e-9)
    equal = sum_from_squares(len(numbers) * 0.25, largest=0.5, count=len(numbers))
    assert equal == pytest.approx(0.5 * len(numbers))


@pytest.fixture
def wide():
    """A Llama of one layer, wide enough that sketches are used."""
    sizes = {"hidden_size": 288, "intermediate_size": 320, "num_hidden_layers": 1, "num_key_value_heads": 4}
    return zoo.find("llama").with_config(**sizes).build(spread=None, dtype=torch.float64)


def test_sketches_of_formed_gradients_are_those_of_rows(wide, monkeypatch):
    """Which of the two is less work depends on the tokens of a batch."""
    targets, data, formed = inspect(wide).modules, samples(zoo.find("llama"), count=24), []
    add = RangeFinder.add_gradient
    monkeypatch.setattr(RangeFinder, "add_gradient", lambda self, total: (formed.append(self.exact), add(self, total)))
    options = {"needs": ("gradient_norms", "spectrum"), "directions": True, "rank": 4, "micro_batch": 24}
    found, rows = (
        measure(wide, targets, data, "causal-lm", Settings(route=route, **options))
        for route in ("direct", "group-gram")
    )
    assert formed.count(False) == len(targets) == 7
    for target, ours, theirs in zip(targets, found.statistics, rows.statistics, strict=True):
        assert ours.spectrum == pytest.approx(theirs.spectrum, rel=1e-8)
        for one, other in zip(found.subspace[target.name], rows.subspace[target.name], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_directions_of_real_gradients(wide):
    """The gradient is one of a model."""
    family, model = zoo.find("llama"), wide
    data = samples(family, count=12)
    targets = inspect(model).modules
    measured = measure(model, targets, data, "causal-lm", Settings(needs=("spectrum",), directions=True, rank=4))
    truth = reference(model, [t.name for t in targets], data)
    sketched = 0
    for target in targets:
        finder = RangeFinder(name=target.name, inputs=target.in_features, outputs=target.out_features, rank=4)
        sketched += not finder.exact
        mean = truth[target.name].mean(dim=0)
        left, vectors = map(torch.from_numpy, measured.subspace[target.name])
        assert (left.shape, vectors.shape) == ((4, target.out_features), (4, target.in_features))
        least = 1 - 1e-6 if finder.exact else 0.85
        assert min(shares(mean, vectors, (1, 2, 4))) >= least, target.name
        assert min(shares(mean.T, left, (1, 2, 4))) >= min(least, 0.75), target.name  # from k rows, where right has l
        assert (((left.double() @ mean.double()) * vectors.double()).sum(dim=1) > 0).all(), target.name
        chance = torch.linalg.qr(torch.randn(target.in_features, 4, dtype=torch.float64))[0].T
        assert max(shares(mean, chance, (1, 2, 4))) < 0.2, target.name
    assert sketched >= 5
