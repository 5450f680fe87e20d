"""Candidates as columns are the candidates that they were made of, and nothing that cannot be exact gets in."""

import attrs
import numpy
import pytest

from layerlens_core.errors import PlanError
from layerlens_core.values.columns import Candidate, Candidates, Table
from layerlens_core.values.costs import Cost

GIVEN = (
    Candidate(method="none", size=0, cost=Cost(), gain=0.0),
    Candidate(method="lora", size=1, cost=Cost(params=10, flops=2.5, memory=80.0, latency=1e-6), gain=0.25),
    Candidate(method="adapter", size=4, cost=Cost(params=7), gain=0.125),
    Candidate(method="lora", size=2, cost=Cost(params=20), gain=0.5),
)


def fresh():
    """The same candidates, none of them made yet."""
    made = Candidates.of(GIVEN)
    return Candidates(made.offers, made.gains)


def test_objects_are_made_of_columns_as_they_were():
    columns = fresh()
    assert tuple(columns) == GIVEN
    assert [fresh()[row] for row in range(len(columns))] == list(GIVEN)
    assert (fresh()[-1], fresh()[1:3]) == (GIVEN[-1], GIVEN[1:3])
    assert {type(value) for value in attrs.astuple(fresh()[1].cost)} == {int, float}
    assert columns == Candidates.of(GIVEN)
    assert columns != Candidates.of(GIVEN[:3])
    assert columns != Candidates(columns.offers, columns.gains * 2)


def test_methods_have_rows_sizes_and_a_cheapest_one():
    offers = fresh().offers
    assert {method: rows.tolist() for method, rows in offers.rows.items()} == {
        "none": [0],
        "lora": [1, 3],
        "adapter": [2],
    }
    assert offers.sizes_of == {"none": (0,), "lora": (1, 2), "adapter": (4,)}
    assert offers.cheapest == {"none": 0, "lora": 1, "adapter": 2}
    assert set(fresh().take(numpy.array([0, 2])).offers.rows) == {"none", "adapter"}


def test_a_table_holds_the_rows_of_all_units():
    other = Candidates.of(GIVEN[::-1][:2])
    table = Table.of([fresh(), other])
    assert table.offsets.tolist() == [0, 4, 6]
    assert [table.candidate(row) for row in range(6)] == [*GIVEN, *GIVEN[::-1][:2]]
    assert [table.candidate_name(row) for row in (1, 5)] == [("lora", 1), ("adapter", 4)]
    some = table.take(table.are("adapter"))
    assert (some.offsets.tolist(), some.unit.tolist(), some.amounts["params"].tolist()) == ([0, 1, 2], [0, 1], [7, 7])
    assert not table.are("prefix").any()


@pytest.mark.parametrize(
    "change", [{"size": 2**53 + 1}, {"cost": Cost(params=2**63)}, {"cost": Cost(params=2**53 + 1)}]
)
def test_whole_numbers_that_a_float_cannot_hold_are_refused(change):
    with pytest.raises(PlanError, match=r"beyond 2\*\*53"):
        Candidates.of([attrs.evolve(GIVEN[1], **change)])
