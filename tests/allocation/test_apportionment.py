"""Sizes in proportion to utility: against a slow reference, and what must always hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.allocation.apportionment import Claim, apportion

utilities = st.floats(0, 1, allow_subnormal=False)


def claim(utility: float, step: int = 10, most: int = 64, extra: int = 0, group: str = "lora") -> Claim:
    return Claim(utility=utility, price=step + extra, step=step, most=most, group=group)


def one_at_a_time(values: list[float], step: int, most: int, limit: int) -> list[int]:
    """D'Hondt by its definition: the next notch to the largest utility / (notches + 1), over and over."""
    notches, left = [1] * len(values), limit - step * len(values)
    while left >= step and any(n < most for n in notches):
        open_ = [i for i in range(len(values)) if notches[i] < most]
        best = max(open_, key=lambda i: (values[i] / (notches[i] + 1), -notches[i], values[i], -i))
        notches[best] += 1
        left -= step
    return notches


@given(st.lists(utilities, min_size=1, max_size=8), st.integers(0, 400))
def test_it_is_dhondt_where_all_pay_the_same(values, budget):
    limit = 10 * len(values) + budget
    assert apportion([claim(v, most=20) for v in values], limit) == one_at_a_time(values, 10, 20, limit)


def by_a_queue(claims: list[Claim], limit: int) -> list[int]:
    """The documented rule, one notch after the other, with every rival told of every unit that cannot afford more."""
    left = limit - sum(c.price for c in claims)
    notches, caps = [1] * len(claims), [c.most for c in claims]
    waiting = set(range(len(claims)))
    while waiting:
        index = min(waiting, key=lambda i: (-claims[i].utility / (notches[i] + 1), notches[i], -claims[i].utility, i))
        mine = claims[index]
        if notches[index] >= caps[index]:
            waiting.discard(index)
        elif mine.step > left:
            waiting.discard(index)
            for other, rival in enumerate(claims):
                if rival.group == mine.group and rival.utility < mine.utility:
                    caps[other] = min(caps[other], notches[index])
        else:
            left -= mine.step
            notches[index] += 1
    return notches


@given(
    st.lists(
        st.builds(
            claim,
            st.one_of(utilities, st.sampled_from([0.0, 0.25, 0.5, 5e-324, 1e308])),
            st.integers(0, 30),
            st.integers(1, 12),
            st.integers(0, 5),
            st.sampled_from(["lora", "adapter"]),
        ),
        min_size=1,
        max_size=9,
    ),
    st.integers(0, 500),
)
def test_it_is_what_a_queue_gives_one_notch_at_a_time(claims, budget):
    limit = sum(c.price for c in claims) + budget
    assert apportion(claims, limit) == by_a_queue(claims, limit)


def test_amounts_beyond_64_bits_are_exact():
    claims = [claim(0.5, step=2**70, most=4), claim(0.25, step=2**70 + 1, most=4)]
    assert apportion(claims, 4 * 2**70) == [2, 1]
    assert apportion(claims, 4 * 2**70 + 1) == [3, 1]


@given(
    st.lists(st.tuples(utilities, st.integers(1, 30), st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=8),
    st.integers(0, 500),
)
def test_the_limit_is_hard_and_larger_utilities_never_get_less(specs, budget):
    claims = [claim(u, step, most, extra) for u, step, most, extra in specs]
    limit = sum(c.price for c in claims) + budget
    notches = apportion(claims, limit)
    spent = sum(c.price + (n - 1) * c.step for c, n in zip(claims, notches, strict=True))
    assert spent <= limit
    for c, n in zip(claims, notches, strict=True):
        assert 1 <= n <= c.most
        for d, m in zip(claims, notches, strict=True):
            assert not (c.utility > d.utility and n < m and n < c.most), "outgrown by one of smaller utility"


@given(st.floats(0.01, 1), st.integers(0, 64), st.booleans())
def test_utilities_that_differ_in_the_last_place_are_in_order_too(value, more, smaller_first):
    # Their quotients by some numbers of notches round to the same float.
    pair = [math.nextafter(value, 0), value]
    first, second = apportion([claim(v) for v in (pair if smaller_first else pair[::-1])], 20 + 10 * more)
    larger, smaller = (second, first) if smaller_first else (first, second)
    assert larger - smaller in (0, 1)


@given(st.lists(utilities, min_size=1, max_size=8), st.integers(0, 300), st.integers(1, 100))
def test_a_larger_limit_never_takes_a_notch_away(values, budget, more):
    claims = [claim(v) for v in values]
    limit = 10 * len(values) + budget
    smaller, larger = apportion(claims, limit), apportion(claims, limit + more)
    assert all(a <= b for a, b in zip(smaller, larger, strict=True))


def test_equal_utilities_share_alike_and_zero_ones_too():
    assert apportion([claim(0.2)] * 3, 90) == [3, 3, 3]
    assert apportion([claim(0.0)] * 3, 90) == [3, 3, 3]


def test_without_a_limit_all_get_their_most():
    assert apportion([claim(0.1, most=3), claim(0.9, most=7)], None) == [3, 7]


def test_a_limit_below_one_notch_each_is_refused():
    with pytest.raises(ValueError, match="one notch each costs 20, above the limit of 19"):
        apportion([claim(0.1), claim(0.9)], 19)
