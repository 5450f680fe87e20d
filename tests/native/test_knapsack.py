"""The multiple-choice knapsack: twins, brute force, and a certificate that holds."""

import itertools
import math
import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerlens_native import _knapsack, _knapsack_py  # type: ignore[attr-defined]
from layerlens_native.knapsack import Infeasible, solve

item = st.tuples(st.integers(0, 60), st.integers(0, 100))
groups = st.lists(st.lists(item, min_size=1, max_size=5), min_size=1, max_size=5)


def flat(choices):
    """Costs, gains and offsets as the solver takes them."""
    items = [pair for group in choices for pair in group]
    offsets = list(itertools.accumulate((len(group) for group in choices), initial=0))
    return [float(c) for c, _ in items], [float(g) for _, g in items], offsets


def brute_force(choices, budget):
    """The best value over every combination, or None."""
    values = [sum(g for _, g in pick) for pick in itertools.product(*choices) if sum(c for c, _ in pick) <= budget]
    return max(values, default=None)


def random_groups(draw, count, most_items, zero=True):
    """Random groups; with ``zero``, each has a free item, as ``none`` is."""
    return [
        [(0, 0.0)] * zero
        + [(draw.randrange(1, 60), round(draw.random(), 3)) for _ in range(draw.randrange(1, most_items))]
        for _ in range(count)
    ]


def test_the_twins_agree_on_ten_thousand_random_cases():
    draw = random.Random(0)
    for _ in range(10_000):
        costs, gains, offsets = flat(random_groups(draw, draw.randrange(1, 5), 6, zero=draw.random() < 0.5))
        arguments = array("d", costs), array("d", gains), array("q", offsets), float(draw.randrange(150))
        native, pure = _knapsack.relax(*arguments), _knapsack_py.relax(*arguments)
        assert native[0] == pure[0]
        assert native[1:] == pytest.approx(pure[1:], rel=1e-12)


def test_exact_reaches_the_optimum_on_five_hundred_small_instances():
    draw = random.Random(1)
    for _ in range(500):
        choices = random_groups(draw, draw.randrange(1, 6), 6)
        budget = draw.randrange(0, 200)
        optimum = brute_force(choices, budget)
        exact = solve(*flat(choices), budget, exact=True)
        quick = solve(*flat(choices), budget)
        assert exact.value == pytest.approx(optimum, rel=1e-12)
        assert exact.bound == exact.value
        assert quick.value <= optimum * (1 + 1e-12)
        assert quick.bound >= optimum * (1 - 1e-12)


@settings(max_examples=300)
@given(groups, st.integers(0, 250), st.booleans())
def test_the_budget_is_hard_and_the_certificate_holds(choices, budget, exact):
    optimum = brute_force(choices, budget)
    if optimum is None:
        with pytest.raises(Infeasible) as caught:
            solve(*flat(choices), budget, exact=exact)
        assert caught.value.least == sum(min(c for c, _ in group) for group in choices)
        return
    solution = solve(*flat(choices), budget, exact=exact)
    picked = [group[i] for group, i in zip(choices, solution.choice, strict=True)]
    assert sum(c for c, _ in picked) == solution.cost <= budget
    assert sum(g for _, g in picked) == pytest.approx(solution.value)
    assert solution.bound >= optimum - 1e-9
    assert solution.value <= optimum + 1e-9
    if exact:
        assert solution.value == pytest.approx(optimum, rel=1e-12, abs=1e-12)
    assert solution.gap >= 0


def test_an_infinite_budget_takes_the_most_of_every_group():
    solution = solve(*flat([[(1, 2.0), (5, 3.0)], [(0, 0.0), (9, -1.0)]]), math.inf)
    assert (solution.choice, solution.value, solution.bound) == ([1, 0], 3.0, 3.0)


@pytest.mark.parametrize(
    ("costs", "gains", "offsets", "budget"),
    [
        ([1.0], [math.nan], [0, 1], 5),
        ([math.inf], [1.0], [0, 1], 5),
        ([-1.0], [1.0], [0, 1], 5),
        ([1.0], [1.0], [0, 0, 1], 5),
        ([1.0], [1.0, 2.0], [0, 1], 5),
        ([1.0], [1.0], [0, 1], math.nan),
    ],
)
def test_what_cannot_be_solved_is_refused(costs, gains, offsets, budget):
    with pytest.raises(ValueError, match=r"must|needs|fit"):
        solve(costs, gains, offsets, budget)
