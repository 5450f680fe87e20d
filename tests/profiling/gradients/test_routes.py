"""Norms of gradients by every route against their definition."""

import pytest
import torch
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.gradients import gram as rows
from layerlens_core.profiling.gradients import materialised as forming
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.routes import Wanted, cheapest, reduce
from layerlens_native import gradient_sums
from zoo.profiled import build, reference, samples

WANTED = [
    Wanted(sample_squared_norms=norms, group_sum_squared_norms=group_norms, group_sums=sums)
    for norms, group_norms, sums in [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1), (0, 0, 1)]
]


@frozen(kw_only=True)
class Case:
    """What is reduced, by which route, and in pieces of which size.

    held: values that may be held at once. height, strip: of pieces of a gradient, and of a Gram matrix.
    """

    wanted: Wanted
    route: str
    groups: int
    group_size: int
    tokens: int
    inputs: int
    outputs: int
    held: int
    height: int
    strip: int
    kernel: bool
    transposed: bool

    def drawn(self):
        """Inputs, output gradients, the weight, and a total to which gradients are added."""
        generator = torch.Generator().manual_seed(self.groups * 64 + self.tokens)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        x, d = (draw(self.groups * self.group_size, self.tokens, width) for width in (self.inputs, self.outputs))
        weight = draw(self.outputs, self.inputs)
        return x, d, weight.T.contiguous().T if self.transposed else weight, draw(self.outputs, self.inputs)


def cases():
    return st.sampled_from(WANTED).flatmap(
        lambda wanted: st.builds(
            Case, wanted=st.just(wanted), route=st.sampled_from(wanted.routes), groups=st.integers(1, 4),
            group_size=st.integers(1, 4), tokens=st.integers(1, 6), inputs=st.integers(1, 7), outputs=st.integers(1, 7),
            held=st.sampled_from([1, 60, 10**6]), height=st.sampled_from([1, 3, 256]),
            strip=st.sampled_from([1, 2, 5, 48]), kernel=st.booleans(), transposed=st.booleans(),
        )
    )  # fmt: skip


@settings(max_examples=150)
@given(cases())
def test_every_route_gives_the_definition(case):
    """By pieces and strips of every size, with the native kernel and without."""
    wanted = case.wanted
    x, d, weight, before = case.drawn()
    total = before.clone() if case.route in ("direct", "mixed") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(forming.HELD, "cpu", case.held)
        patch.setattr(forming, "ROWS", case.height)
        patch.setitem(rows.STRIP, "cpu", case.strip)
        patch.setattr(gradient_sums, "THREADS", torch.get_num_threads() if case.kernel else 0)
        found = reduce(
            Rows(x), Rows(d), group_size=case.group_size, wanted=wanted, route=case.route, total=total,
            weight=weight if wanted.group_sums else None,
        )  # fmt: skip
    gradients = torch.stack([b.T @ a for a, b in zip(x, d, strict=True)])
    together = gradients.view(case.groups, case.group_size, case.outputs, case.inputs).sum(dim=1)
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


def test_the_cheapest_route_follows_the_shapes():
    norms, both = Wanted(sample_squared_norms=True, group_sum_squared_norms=False, group_sums=False), WANTED[1]
    shape = {"group_size": 2, "inputs": 4096, "outputs": 4096}
    assert cheapest(norms, tokens=128, **shape) == "sample-gram"
    assert cheapest(both, tokens=128, **shape) == "group-gram"
    assert cheapest(norms, tokens=8192, **shape) == "direct"
    assert cheapest(both, tokens=2, group_size=64, inputs=3, outputs=3) in ("direct", "mixed")
    with pytest.raises(ValueError, match="does not give"):
        reduce(Rows(torch.ones(2, 1, 1)), Rows(torch.ones(2, 1, 1)), group_size=2, wanted=both, route="sample-gram")


def test_fisher_alone_by_grams_of_samples(family):
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
