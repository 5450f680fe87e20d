"""Sizes shared out by weight: against a slow reference, and what must always hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_builtin.strategies.shares import MOST, Place, share_out

WEIGHTS = st.one_of(st.floats(1e-3, 100), st.sampled_from([0.0, 1.0, 2.0]))
PLACES = st.lists(
    st.builds(
        lambda weight, step, fixed, more, least: Place(
            weight=weight, first=fixed + step * least, step=step, most=least + more, least=least
        ),
        WEIGHTS,
        st.integers(1, 50),
        st.sampled_from([0, 0, 7]),
        st.integers(0, 23),
        st.sampled_from([1, 1, 1, 2, 5]),
    ),
    min_size=1,
    max_size=8,
)


def spent(places: list[Place], notches: list[int]) -> int:
    return sum(place.first + place.step * (n - place.least) for place, n in zip(places, notches, strict=True))


def by_definition(places: list[Place], limit: int) -> list[float]:
    """Sizes that are no whole numbers: the factor is searched over every point at which some size reaches a bound."""
    beyond = limit - sum(p.first for p in places)
    equal = (beyond + sum(p.step * p.least for p in places)) / sum(p.step for p in places)
    caps = [min(p.most, max(p.least, MOST * equal)) for p in places]
    weights = [p.weight for p in places] if any(p.weight for p in places) else [1.0] * len(places)

    def sizes(factor: float) -> list[float]:
        return [min(max(factor * w, p.least), cap) for w, p, cap in zip(weights, places, caps, strict=True)]

    def cost(factor: float) -> float:
        return sum(p.first + p.step * (x - p.least) for p, x in zip(places, sizes(factor), strict=True))

    bends = sorted(
        {0.0, *(b / w for w, p, cap in zip(weights, places, caps, strict=True) if w > 0 for b in (p.least, cap))}
    )
    below = [f for f in bends if cost(f) <= limit]
    above = [f for f in bends if cost(f) > limit]
    if not above:
        return sizes(bends[-1])
    low, high = below[-1], above[0]
    rise = cost(high) - cost(low)  # linear between two bends
    return sizes(low + (high - low) * (limit - cost(low)) / rise)


@given(PLACES, st.integers(0, 3000))
def test_sizes_are_those_of_the_definition_up_to_rounding_and_left_overs(places, beyond):
    limit = sum(p.first for p in places) + beyond
    notches = share_out(places, limit)
    if limit >= spent(places, [p.most for p in places]):
        assert notches == [p.most for p in places]
        return
    exact = by_definition(places, limit)
    for got, target in zip(notches, exact, strict=True):
        assert got >= math.floor(target - 1e-6)


@given(PLACES, st.integers(0, 3000))
def test_the_limit_is_kept_and_used_to_a_step(places, beyond):
    limit = sum(p.first for p in places) + beyond
    notches = share_out(places, limit)
    assert all(p.least <= n <= p.most for n, p in zip(notches, places, strict=True))
    left = limit - spent(places, notches)
    assert left >= 0
    assert all(n == p.most or p.step > left for n, p in zip(notches, places, strict=True))


@given(st.lists(WEIGHTS, min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 60))
def test_where_all_pay_the_same_a_larger_weight_never_gets_less(weights, step, each):
    places = [Place(weight=w, first=step, step=step, most=64) for w in weights]
    notches = share_out(places, step * each * len(places) // 2 + step * len(places))
    for a, one in zip(weights, notches, strict=True):
        for b, other in zip(weights, notches, strict=True):
            assert a <= b or one >= other


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 64), st.sampled_from([0.0, 0.3]))
def test_equal_weights_get_exactly_the_equal_size(steps, rank, weight):
    places = [Place(weight=weight, first=step, step=step, most=64) for step in steps]
    assert share_out(places, rank * sum(steps)) == [rank] * len(steps)


def test_proportions_are_those_of_the_weights():
    places = [Place(weight=w, first=10, step=10, most=64) for w in (1.0, 2.0, 3.0)]
    assert share_out(places, 10 * 12) == [2, 4, 6]


def test_nothing_grows_beyond_four_times_the_equal_size_while_others_can():
    places = [Place(weight=w, first=1, step=1, most=64) for w in (1000.0, *[1.0] * 9)]
    assert share_out(places, 20)[0] == 8


def test_no_limit_gives_everything_and_too_small_a_one_is_refused():
    places = [Place(weight=1.0, first=10, step=10, most=5)] * 2
    assert share_out(places, None) == [5, 5]
    assert share_out([], 10) == []
    with pytest.raises(ValueError, match="the least sizes cost 20, above the limit of 19"):
        share_out(places, 19)
