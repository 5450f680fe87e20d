"""Sums over gradients in one pass: the native kernel, its twin, and the definition in float64."""

import pytest
import torch
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_native import _gradient_sums_py, gradient_sums

WHAT = ("total", "singles", "squares", "weighted")
native = pytest.mark.skipif(gradient_sums.IMPLEMENTATION != "native", reason="LAYERLENS_PURE=1 asks for the twin")


def obvious(gradients, group, weight, total):
    """All sums in float64, one group after the other."""
    wide = gradients.double()
    together = [wide[first : first + group].sum(dim=0) for first in range(0, len(wide), group)]

    def sums(matrices):
        return torch.tensor([float(each.sum()) for each in matrices], dtype=torch.float64)

    return {
        "total": total.double() + wide.sum(dim=0),
        "singles": sums(wide.square()),
        "squares": sums([each.square() for each in together]),
        "weighted": sums([(weight.double() * each).abs() for each in together]),
    }


def draw(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@frozen(kw_only=True)
class Case:
    """Gradients of so many groups of samples, and which sums over them are asked for.

    apart: rows and columns of a larger matrix that the gradients are cut from. layout: of the weight's memory.
    """

    groups: int
    group: int
    rows: int
    columns: int
    apart: int
    dtype: torch.dtype
    layout: str
    what: frozenset[str]

    @property
    def gradients(self):
        whole = (self.groups * self.group, self.rows + self.apart, self.columns + self.apart)
        return draw(whole, self.dtype, self.columns)[:, self.apart :, self.apart :]

    @property
    def weight(self):
        weight = draw((self.rows, self.columns), self.dtype, 1)
        return weight.T.contiguous().T if self.layout == "columns" else weight


cases = st.builds(
    Case,
    groups=st.integers(0, 3),
    group=st.integers(1, 4),
    rows=st.integers(1, 5),
    columns=st.sampled_from([1, 2, 31, 32, 33, 100, 1023, 1024, 1025, 2100]),
    apart=st.integers(0, 2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    layout=st.sampled_from(["rows", "columns"]),
    what=st.frozensets(st.sampled_from(WHAT)),
)


@pytest.mark.parametrize("implementation", [pytest.param("native", marks=native), "pure"])
@settings(max_examples=100)
@given(cases)
def test_the_sums_are_those_of_the_definition(implementation, case):
    gradients, weight, total = case.gradients, case.weight, draw((case.rows, case.columns), case.dtype, 2)
    expected = obvious(gradients, case.group, weight, total)
    sums = {
        "total": total.clone(), "singles": torch.ones(len(gradients), dtype=torch.float64),
        "squares": torch.ones(case.groups, dtype=torch.float64),
        "weighted": torch.ones(case.groups, dtype=torch.float64),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_sums, "IMPLEMENTATION", implementation)
        patch.setattr(gradient_sums, "THREADS", torch.get_num_threads())
        asked = {name: sums[name] for name in case.what}
        gradient_sums.accumulate(gradients, group=case.group, weight=weight, **asked)
    narrow = 1e-6 if implementation == "native" and case.layout == "rows" else 1e-5
    precision = {torch.float32: narrow, torch.float64: 1e-13, torch.bfloat16: 0.05}[case.dtype]
    for name in WHAT:
        if name == "total":
            truth = expected["total"] if name in case.what else total.double()
            assert torch.allclose(sums["total"].double(), truth, rtol=precision, atol=precision * 4)
        else:
            truth = 1 + expected[name] if name in case.what else torch.ones_like(sums[name])
            assert torch.allclose(sums[name], truth, rtol=precision)


@pytest.mark.parametrize("implementation", [pytest.param("native", marks=native), "pure"])
@settings(max_examples=50)
@given(
    samples=st.integers(0, 3), rows=st.integers(0, 5), columns=st.sampled_from([1, 7, 48, 400]),
    once=st.none() | st.integers(0, 6), apart=st.integers(0, 2), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_inner_products_are_those_of_the_definition(implementation, samples, rows, columns, once, apart, dtype):
    left = draw((samples, rows + apart, columns), dtype, 3)[:, apart:]
    right = draw((samples, rows, columns + apart), dtype, 4)[:, :, apart:]
    counted = torch.tensor([1 if once is None or row < once else 2 for row in range(rows)]).view(rows, 1)
    expected = (counted * left.double() * right.double()).sum(dim=(1, 2))
    precision = 1e-6 if dtype == torch.float32 else 1e-14
    allowed = precision * (2 * left.double() * right.double()).abs().sum(dim=(1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_sums, "IMPLEMENTATION", implementation)
        patch.setattr(gradient_sums, "THREADS", torch.get_num_threads())
        found = gradient_sums.inner(left, right, once)
    assert found.dtype == torch.float64
    assert bool(((found - expected).abs() <= allowed).all())


@native
def test_float32_sums_over_a_large_matrix_keep_six_digits(monkeypatch):
    """All terms of one sign and alike, the worst case for a long sum."""
    size, value = 4096, 1.1
    monkeypatch.setattr(gradient_sums, "THREADS", torch.get_num_threads())
    gradients = torch.full((1, size, size), value)
    sums = {name: torch.zeros(1, dtype=torch.float64) for name in ("singles", "squares", "weighted")}
    gradient_sums.accumulate(gradients, weight=torch.full((size, size), -0.7), **sums)
    for name, each in {"singles": value**2, "squares": value**2, "weighted": 0.7 * value}.items():
        assert float(sums[name]) == pytest.approx(size**2 * each, rel=1e-6)


@native
@pytest.mark.parametrize(
    ("change", "threads", "serves"),
    [
        (lambda t: t, 1, True),
        (lambda t: t.double(), 4, True),
        (lambda t: t, 5, False),
        (lambda t: t.bfloat16(), 1, False),
        (lambda t: t.mT, 1, False),
    ],
)
def test_the_kernel_serves_for_what_it_takes_and_the_twin_for_the_rest(monkeypatch, change, threads, serves):
    called = []
    monkeypatch.setattr(_gradient_sums_py, "accumulate", lambda *_, **__: called.append(True))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    gradient_sums.accumulate(change(torch.ones(2, 3, 4)), singles=torch.zeros(2, dtype=torch.float64))
    assert called == ([] if serves else [True])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": 2}, "gradients are"),
        ({"group": 0}, "gradients are"),
        ({"singles": torch.zeros(2)}, "singles has to be"),
        ({"squares": torch.zeros(2), "group": 1}, "squares has to be"),
        ({"total": torch.zeros(5, 4)}, "total has to be"),
        ({"weighted": torch.zeros(3)}, "need a weight"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gradient_sums.accumulate(torch.ones(3, 4, 5), **arguments)
    with pytest.raises(ValueError, match="one shape"):
        gradient_sums.inner(torch.ones(1, 2, 3), torch.ones(1, 3, 2))
