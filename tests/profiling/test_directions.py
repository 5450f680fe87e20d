"""The range finder against the full SVD of the exact mean gradient, and the side file against damage."""

import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import layerlens_core as ll
from layerlens_core.errors import FileError
from layerlens_core.files.directions import read_directions, write_directions
from layerlens_core.files.run import DIRECTIONS
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients.range_finder import RangeFinder, sum_from_squares
from layerlens_core.profiling.profile import profile


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


@settings(max_examples=15, deadline=None)
@given(rank=st.integers(1, 8), batches=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_gradient_of_low_rank_is_found_exactly(rank, batches, seed):
    x, d = tokens(0.5, count=rank, width=280, height=300, seed=seed)
    pad = torch.zeros(10, 1, dtype=torch.float64)
    x, d = (torch.cat([part, pad.expand(-1, part.shape[1])]) for part in (x, d))
    finder = RangeFinder(name="m", inputs=280, outputs=300, rank=8, seed=seed)
    assert not finder.exact
    found = feed(finder, x, d, batches).find(samples=3)
    _, values, vectors = torch.linalg.svd(d.T @ x / 3, full_matrices=False)
    assert found.values.tolist() == pytest.approx(values[:8].tolist(), rel=1e-8, abs=1e-10 * float(values[0]))
    alignment = (found.vectors[:rank].double() @ vectors[:rank].T).square().sum(dim=1)
    assert alignment.tolist() == pytest.approx([1.0] * rank, abs=1e-6)
    assert found.outside <= 1e-9 * float(values.square().sum())


@pytest.mark.parametrize(("decay", "least"), [(0.5, 0.80), (1.0, 0.97), (2.0, 0.999)])
def test_the_leading_subspace_holds_almost_what_the_best_one_does(decay, least):
    x, d = tokens(decay, count=500, width=700, height=600)
    finder = feed(RangeFinder(name="m", inputs=700, outputs=600, rank=64), x, d, 4)
    assert not finder.exact
    found, gradient = finder.find(1), d.T @ x
    assert min(shares(gradient, found.vectors, (1, 4, 16, 64))) >= least
    assert (found.vectors @ found.vectors.T - torch.eye(64)).abs().max() < 1e-5
    outside = float((gradient - gradient @ found.vectors.double().T @ found.vectors.double()).square().sum())
    assert found.outside == pytest.approx(outside, rel=0.3)  # 16 held-out rows
    values = torch.linalg.svdvals(gradient)
    assert found.rest == pytest.approx(float(values[64:].sum()), rel=0.5)


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
    assert torch.allclose(first.find(1).vectors, whole.vectors, atol=1e-6)
    assert torch.equal(feed(RangeFinder(**finder), x, d, 1).find(1).vectors, whole.vectors)
    assert not torch.equal(feed(RangeFinder(**finder, seed=1), x, d, 1).find(1).vectors, whole.vectors)
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
def wide(named_family, build):
    """A Llama of one layer, wide enough that sketches are used."""
    torch.manual_seed(0)
    plain = build(named_family("llama"))
    sizes = {"hidden_size": 288, "intermediate_size": 320, "num_hidden_layers": 1, "num_attention_heads": 4}
    return type(plain)(type(plain.config)(**sizes, vocab_size=97)).double()


def test_sketches_of_formed_gradients_are_those_of_rows(named_family, wide, samples, monkeypatch):
    """Which of the two is less work depends on the tokens of a batch."""
    targets, data, formed = inspect(wide).modules, samples(named_family("llama"), count=24), []
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
        assert torch.allclose(found.vectors[target.name], rows.vectors[target.name], atol=1e-5)


def test_directions_of_real_gradients(named_family, wide, samples, reference):
    """The gradient is one of a model."""
    family, model = named_family("llama"), wide
    data = samples(family, count=12)
    targets = inspect(model).modules
    measured = measure(model, targets, data, "causal-lm", Settings(needs=("spectrum",), directions=True, rank=4))
    truth = reference(model, [t.name for t in targets], data)
    sketched = 0
    for target in targets:
        finder = RangeFinder(name=target.name, inputs=target.in_features, outputs=target.out_features, rank=4)
        sketched += not finder.exact
        mean = truth[target.name].mean(dim=0)
        vectors = measured.vectors[target.name]
        assert vectors.shape == (4, target.in_features)
        least = 1 - 1e-6 if finder.exact else 0.85
        assert min(shares(mean, vectors, (1, 2, 4))) >= least, target.name
        chance = torch.linalg.qr(torch.randn(target.in_features, 4, dtype=torch.float64))[0].T
        assert max(shares(mean, chance, (1, 2, 4))) < 0.2, target.name
    assert sketched >= 5


def test_the_side_file_comes_back_and_is_the_same_every_time(named_family, build, samples, tmp_path):
    family = named_family("llama")
    model, data = build(family, torch.float32), samples(family)
    run = profile(model, data, directions=tmp_path / "run")
    path = tmp_path / "run" / DIRECTIONS
    first = path.read_bytes()
    vectors = read_directions(path, fingerprint=run.inventory.fingerprint, digest=run.directions)
    assert sorted(vectors) == sorted(module.name for module in run.inventory.modules)
    for module in run.inventory.modules:
        assert vectors[module.name].shape == (min(64, module.in_features, module.out_features), module.in_features)
    assert profile(model, data, directions=tmp_path / "run") == run
    assert path.read_bytes() == first
    run.save(tmp_path / "run")
    assert ll.Profile.load(tmp_path / "run") == run
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")] == []
    assert profile(model, data).directions is None


def test_a_side_file_that_is_not_the_one_is_refused_in_one_line(tmp_path):
    vectors = {"a.b": torch.eye(3)}
    digest = write_directions(tmp_path, {"a.b": np.eye(3)}, fingerprint="f", seed=0, samples=2)
    path = tmp_path / DIRECTIONS
    content = path.read_bytes()
    assert (read_directions(tmp_path, fingerprint="f", digest=digest)["a.b"] == np.eye(3)).all()

    def refused(match, *, data=content, fingerprint="f", expected=None):
        path.write_bytes(data)
        with pytest.raises(FileError, match=match) as caught:
            read_directions(path, fingerprint=fingerprint, digest=expected)
        assert "\n" not in str(caught.value)

    refused("another model", fingerprint="g")
    refused("not the file that its profile", data=content[:-1] + b"x", expected=digest)
    for length in (0, 5, 40, len(content) - 1):
        refused("damaged", data=content[:length])
    refused("damaged", data=b"\xff" * 200)
    refused("damaged", data=safetensors.torch.save(vectors))
    header = {"schema": "layerlens/directions", "version": 2}
    refused("is of version 2", data=safetensors.torch.save(vectors, metadata={"layerlens": json.dumps(header)}))
    refused("is not a layerlens/directions", data=safetensors.torch.save(vectors, metadata={"layerlens": "{}"}))
    path.unlink()
    with pytest.raises(FileError, match="does not exist"):
        read_directions(path, fingerprint="f", digest=digest)
