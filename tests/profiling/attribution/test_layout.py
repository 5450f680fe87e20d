"""Layouts against a tensor whose every row knows its sample."""

from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.profiling.attribution.layout import Layout, agreeing, alone, layouts


@st.composite
def laid_out(draw):
    samples = draw(st.integers(2, 4))
    shape = list(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    dim = draw(st.integers(0, len(shape) - 1))
    fold = draw(st.sampled_from(["whole", "outer", "inner"]))
    shape[dim] = samples if fold == "whole" else samples * draw(st.integers(2, 4))
    return Layout(len(shape), dim, fold), tuple(shape), samples


@given(laid_out())
def test_rows_come_together_by_sample(drawn):
    layout, shape, samples = drawn
    owners = layout.owners(shape, samples)
    number = torch.arange(prod(shape))
    rows = torch.stack([owners, number], dim=-1).view(*shape, 2)
    found = layout.by_sample(rows, samples)
    assert found.shape == (samples, prod(shape) // samples, 2)
    for sample in range(samples):
        assert (found[sample, :, 0] == sample).all()
        assert found[sample, :, 1].tolist() == number[owners == sample].tolist()


@given(laid_out())
def test_marks_of_all_rows_lead_back_to_the_layout(drawn):
    layout, shape, samples = drawn
    owners = layout.owners(shape, samples)
    found = agreeing(shape, samples, {sample: owners == sample for sample in range(samples)})
    assert layout in found
    assert all((other.owners(shape, samples) == owners).all() for other in found)


def test_sizes_alone_tell_nothing():
    assert len(list(layouts((4, 4), 4))) == 2
    assert agreeing((4, 4), 4, {1: torch.ones(16, dtype=torch.bool)}) == frozenset()


def test_other_sizes_do_not_fit():
    assert Layout(2, 0, "whole").by_sample(torch.zeros(3, 5, 2), 4) is None
    assert Layout(2, 0, "whole").by_sample(torch.zeros(4, 2), 4) is None
    assert Layout(1, 0, "outer").by_sample(torch.zeros(6, 2), 4) is None


def test_a_single_sample_owns_every_row():
    assert alone(torch.zeros(3, 5, 2)).shape == (1, 15, 2)
    assert alone(torch.zeros(2)).shape == (1, 1, 2)


@given(laid_out())
def test_rows_go_back_to_their_places(drawn):
    layout, shape, samples = drawn
    rows = torch.arange(prod(shape) * 3).view(*shape, 3)
    found = layout.by_sample(rows, samples)
    assert torch.equal(layout.in_place(found, shape), rows)
