"""Norms of gradients by every route against their definition; inputs that are shared are prepared once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine import measure as engine
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients import gram as rows
from layerlens_core.profiling.gradients import materialised as forming
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.routes import Wanted, cheapest, reduce
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_native import gradient_sums

WANTED = [
    Wanted(sample_squared_norms=norms, group_sum_squared_norms=group_norms, group_sums=sums)
    for norms, group_norms, sums in [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1), (0, 0, 1)]
]


@settings(max_examples=150, deadline=None)
@given(
    wanted=st.sampled_from(WANTED), groups=st.integers(1, 4), group=st.integers(1, 4), tokens=st.integers(1, 6),
    inputs=st.integers(1, 7), outputs=st.integers(1, 7), held=st.sampled_from([1, 60, 10**6]),
    height=st.sampled_from([1, 3, 256]), strip=st.sampled_from([1, 2, 5, 48]), kernel=st.booleans(),
    transposed=st.booleans(), data=st.data(),
)  # fmt: skip
def test_every_route_gives_the_definition(
    wanted, groups, group, tokens, inputs, outputs, held, height, strip, kernel, transposed, data
):
    """By pieces and strips of every size, with the native kernel and without."""
    route = data.draw(st.sampled_from(wanted.routes))
    generator = torch.Generator().manual_seed(groups * 64 + tokens)
    x, d = (
        torch.randn(groups * group, tokens, width, generator=generator, dtype=torch.float64)
        for width in (inputs, outputs)
    )
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    weight = weight.T.contiguous().T if transposed else weight
    before = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    total = before.clone() if route in ("direct", "mixed") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(forming.HELD, "cpu", held)
        patch.setattr(forming, "ROWS", height)
        patch.setitem(rows.STRIP, "cpu", strip)
        patch.setattr(gradient_sums, "THREADS", torch.get_num_threads() if kernel else 0)
        found = reduce(
            Rows(x), Rows(d), group_size=group, wanted=wanted, route=route, total=total,
            weight=weight if wanted.group_sums else None,
        )  # fmt: skip
    gradients = torch.stack([b.T @ a for a, b in zip(x, d, strict=True)])
    together = gradients.view(groups, group, outputs, inputs).sum(dim=1)
    if wanted.sample_squared_norms:
        assert found.sample_squared_norms.tolist() == pytest.approx(
            gradients.square().sum(dim=(1, 2)).tolist(), rel=1e-10
        )
    if wanted.group_sum_squared_norms:
        scale = float(gradients.square().sum())
        expected = together.square().sum(dim=(1, 2)).tolist()
        assert found.group_sum_squared_norms.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12 * scale)
    if total is not None:
        assert torch.allclose(total, before + gradients.sum(dim=0), rtol=1e-10)
    if wanted.group_sums:
        sizes = (weight * together).abs().sum(dim=(1, 2)).tolist()
        assert found.weighted_sums.tolist() == pytest.approx(sizes, rel=1e-10)


def test_nothing_is_added_to_a_total_where_memory_runs_out(monkeypatch):
    """Work that failed is done again; a sample must not be in the sum twice."""
    monkeypatch.setitem(forming.HELD, "cpu", 1)
    monkeypatch.setattr(forming, "ROWS", 1)
    monkeypatch.setattr(gradient_sums, "IMPLEMENTATION", "pure")
    products = []

    def scarce(left, right, out=None):
        products.append(left)
        if len(products) == 3:
            raise torch.OutOfMemoryError
        return rows.product(left, right, out)

    monkeypatch.setattr(forming, "product", scarce)
    total = torch.zeros(3, 5)
    with pytest.raises(torch.OutOfMemoryError):
        forming.materialised(
            torch.ones(4, 2, 5), torch.ones(4, 2, 3), group_size=2, singly=True, grouped=True, total=total
        )
    assert not total.any()


def test_half_of_a_symmetric_gram_matrix_is_computed(monkeypatch):
    monkeypatch.setitem(rows.STRIP, "cpu", 2)
    kept = Rows(torch.randn(3, 5, 7, dtype=torch.float64))
    whole = kept.gram(1, 0, keep=False)
    strips = {first: kept.strip(first, keep=True) for first in kept.strips}
    assert {first: tuple(strip.shape) for first, strip in strips.items()} == {0: (3, 5, 2), 2: (3, 3, 2), 4: (3, 1, 1)}
    for first, strip in strips.items():
        assert torch.allclose(strip, whole[:, first:, first : first + 2])
        assert kept.strip(first, keep=False) is strip


def test_the_cheapest_route_follows_the_shapes():
    norms, both = Wanted(sample_squared_norms=True, group_sum_squared_norms=False, group_sums=False), WANTED[1]
    shape = {"group_size": 2, "inputs": 4096, "outputs": 4096}
    assert cheapest(norms, tokens=128, **shape) == "sample-gram"
    assert cheapest(both, tokens=128, **shape) == "group-gram"
    assert cheapest(norms, tokens=8192, **shape) == "direct"
    assert cheapest(both, tokens=2, group_size=64, inputs=3, outputs=3) in ("direct", "mixed")
    with pytest.raises(ValueError, match="does not give"):
        reduce(Rows(torch.ones(2, 1, 1)), Rows(torch.ones(2, 1, 1)), group_size=2, wanted=both, route="sample-gram")


def test_memory_that_was_freed_and_used_again_is_no_shared_input():
    shared = SharedInputs()
    tensor = torch.ones(2, 3, 4)
    rows = shared.remember(tensor, Rows(tensor))
    assert shared.find(tensor.detach()) is rows
    assert shared.find(tensor[:, :2]) is None
    assert shared.find(tensor.clone()) is None
    tensor.add_(1)
    assert shared.find(tensor) is None
    address = tensor.data_ptr()
    del tensor, rows
    assert all(torch.ones(2, 3, 4).data_ptr() != address for _ in range(20))  # the entry keeps it


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_shared_inputs_are_prepared_once_and_right(named_family, build, samples, reference, reentrant, monkeypatch):
    family = named_family("llama")
    model, data = build(family), samples(family, count=6)
    targets = inspect(model).modules
    if reentrant is not None:
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
    made = []

    class Counted(SharedInputs):
        def remember(self, tensor, rows):
            made.append(rows)
            return super().remember(tensor, rows)

    monkeypatch.setattr(engine, "SharedInputs", Counted)
    measured = measure(
        model, targets, data, "causal-lm", Settings(needs=("gradient_norms",), micro_batch=2, route="group-gram")
    )
    assert len(made) == 3 * 3 * 4  # batches, layers, inputs: of attention, of o_proj, of gate and up, of down_proj
    model.gradient_checkpointing_disable()
    truth = reference(model, [t.name for t in targets], data)
    for statistics in measured.statistics:
        expected = float(truth[statistics.module].square().sum()) / len(data)
        assert statistics.fisher == pytest.approx(expected, rel=1e-10)


def test_fisher_alone_by_grams_of_samples(family, build, samples, reference):
    model, data = build(family), samples(family, count=5)
    targets = inspect(model).modules
    for route in ("sample-gram", "direct"):
        measured = measure(
            model, targets, data, family.task, Settings(needs=("sample_norms",), micro_batch=2, route=route)
        )
        truth = reference(model, [t.name for t in targets], data)
        for statistics in measured.statistics:
            expected = float(truth[statistics.module].square().sum()) / len(data)
            assert statistics.fisher == pytest.approx(expected, rel=1e-10), route
            assert statistics.sum_group_mean_squared_norm is None
