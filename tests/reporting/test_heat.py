"""Heat maps: which cell stands where, and how dark it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.allocation.allocate import allocate
from layerlens_core.reporting.heat import SHADES, heat_map, shade, stem
from reporting.made import decoder, encoder, encoder_decoder, mixture, profile


def planned(inventory, **asked):
    profiled = profile(inventory)
    return allocate(profiled, **{"budget": "params=r=4", "abstain": False, "margins": False, **asked}), profiled


@pytest.mark.parametrize("made", [encoder(3), decoder(3), encoder_decoder(2), mixture(2, experts=2)])
def test_every_place_has_one_cell_with_its_size(made):
    plan, profiled = planned(made)
    sizes = {place: size for decision in plan.decisions for place, size in decision.sizes.items()}
    seen = {}
    for group in heat_map(plan, profiled):
        for row in group.rows:
            assert len(row.cells) == len(group.columns)
            for cell in filter(None, row.cells):
                (place,) = cell.places
                assert place not in seen
                seen[place] = cell.high
                assert cell.low == cell.high == sizes.get(place, 0)
                assert (cell.shade is None) == (cell.high == 0) == (cell.method == "none")
    assert {module.name for module in made.modules} <= seen.keys()
    assert sizes.items() <= seen.items()


def test_without_a_profile_the_columns_are_those_of_the_plan():
    plan, profiled = planned(decoder(3))
    (alone,), (whole,) = heat_map(plan), heat_map(plan, profiled)
    assert alone.columns == whole.columns
    assert [row.cells for row in alone.rows] == [row.cells for row in whole.rows]


def test_headings_are_the_shortest_that_differ():
    (group,) = heat_map(*planned(encoder(2)))
    assert group.headings == (
        "query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense",
    )  # fmt: skip
    assert heat_map(*planned(decoder(2)))[0].headings[:2] == ("q_proj", "k_proj")


def test_many_experts_share_columns_with_the_range_of_their_sizes():
    plan, profiled = planned(mixture(2, experts=8))
    (group,) = heat_map(plan, profiled)
    cell = group.rows[0].cells[group.columns.index("mlp.experts.*.w1")]
    sizes = [plan.decisions[0].sizes[place] for place in cell.places]
    assert len(cell.places) == 8
    assert (cell.low, cell.high) == (min(sizes), max(sizes))
    assert cell.size == (str(cell.high) if cell.low == cell.high else f"{cell.low}–{cell.high}")
    assert group.rows[-1].cells[group.columns.index("mlp.experts.*.w1")] is None


@given(value=st.floats(allow_nan=False, allow_infinity=False), largest=st.floats(0, allow_infinity=False))
def test_a_shade_is_the_ninth_in_which_a_value_lies(value, largest):
    below = [number for number in range(SHADES) if value > 0 and largest > 0 and value / largest >= number / SHADES]
    assert abs(shade(value, largest) - (below[-1] if below else 0)) <= (value > 0)  # at an edge, rounding decides
    assert 0 <= shade(value, largest) < SHADES


@given(values=st.lists(st.floats(0, 1e6), min_size=2))
def test_what_is_larger_is_no_lighter(values):
    found = [shade(value, max(values)) for value in sorted(values)]
    assert found == sorted(found)


def test_the_largest_is_darkest_and_nothing_is_faintest():
    assert shade(5.0, 5.0) == SHADES - 1
    assert shade(0.0, 5.0) == shade(-1.0, 5.0) == shade(1.0, 0.0) == 0


def test_scores_shade_cells_where_they_are_known():
    plan, profiled = planned(encoder(2))
    modules = [module.name for module in profiled.inventory.modules]
    importance = {modules[0]: 1.0, modules[1]: 0.1}
    (group,) = heat_map(plan, profiled, importance)
    first = group.rows[0].cells
    assert (first[0].score, first[1].score, first[2].score) == (SHADES - 1, 0, None)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.b.3", "a.b"), ("encoder.block.11", "encoder.block"), ("alone", ""), ("a.b", "")]
)
def test_the_kind_of_a_layer_is_what_stands_before_its_number(name, kind):
    assert stem(name) == kind
