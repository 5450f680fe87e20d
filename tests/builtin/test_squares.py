"""Sizes whose squares follow weights, within a limit on their sum."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_builtin.strategies.squares import share_squares

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=6)


@given(weights=WEIGHTS, data=st.data())
def test_sizes_keep_the_limit_and_nobody_could_have_one_more(weights, data):
    most = data.draw(st.lists(st.integers(1, 40), min_size=len(weights), max_size=len(weights)))
    least = [data.draw(st.integers(1, cap)) for cap in most]
    limit = sum(size * size for size in least) + data.draw(st.integers(0, 3000))
    sizes = share_squares(weights, most, limit, least)
    spent = sum(size * size for size in sizes)
    assert spent <= limit
    assert all(low <= size <= cap for size, low, cap in zip(sizes, least, most, strict=True))
    left = limit - spent
    assert all(size == cap or 2 * size + 1 > left for size, cap in zip(sizes, most, strict=True))


@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=4), limit=st.integers(4, 400))
def test_who_weighs_more_never_gets_less_by_more_than_a_step(weights, limit):
    sizes = share_squares(weights, [64] * len(weights), max(limit, len(weights)))
    for (w, a), (v, b) in itertools.permutations(list(zip(weights, sizes, strict=True)), 2):
        if w >= v:
            assert a >= b - 1


@given(limit=st.integers(3, 5000))
def test_sizes_are_the_roots_of_proportional_shares(limit):
    """To a few steps: what rounding leaves over goes to whoever it suffices for."""
    weights = [1.0, 4.0, 9.0]
    sizes = share_squares(weights, [1000] * 3, limit)
    exact = [(limit * weight / 14) ** 0.5 for weight in weights]
    assert all(abs(size - max(1, real)) < 5 for size, real in zip(sizes, exact, strict=True))


def test_weights_of_zero_weigh_alike_and_too_little_is_refused():
    assert share_squares([0.0, 0.0], [9, 9], 18) == [3, 3]
    assert share_squares([1.0, 0.0], [9, 9], 50) == [7, 1]
    with pytest.raises(ValueError, match="above the limit of 2"):
        share_squares([1.0, 1.0, 1.0], [9, 9, 9], 2)
