"""What a standard error may explain decides nothing, and what is beyond it is kept."""

import math
import random

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.reliability import discounted, doubts, quantile, told_from_zero, warned

#: Of scale about 1, so that rounding stays far below any difference.
NUMBERS = st.floats(-100, 100).map(lambda value: round(value, 3))
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS.map(abs)), min_size=1, max_size=10)


def slowly(values, errors):
    """The same by the formula of the module, as it stands there."""
    z, mean = quantile(len(values)), max(0.0, sum(values) / len(values))

    def towards(centre, value, error):
        distance = value - centre
        return centre + (distance * max(0.0, 1 - (z * error / distance) ** 2) if distance else 0.0)

    found = [towards(mean, value, error) for value, error in zip(values, errors, strict=True)]
    found = [new if new >= 0 else towards(0.0, old, e) for new, old, e in zip(found, values, errors, strict=True)]
    return [1.0] * len(values) if any(values) and not any(found) else found


@given(PAIRS)
def test_it_is_the_formula(pairs):
    values, errors = zip(*pairs, strict=True)
    assert discounted(values, errors) == pytest.approx(slowly(values, errors), rel=1e-6, abs=1e-6)


@given(PAIRS, st.randoms(use_true_random=False), st.floats(1e-3, 1e3))
def test_order_and_unit_do_not_matter(pairs, draw, factor):
    order = list(range(len(pairs)))
    draw.shuffle(order)
    values, errors = zip(*pairs, strict=True)
    found = discounted(values, errors)
    moved = discounted([values[i] for i in order], [errors[i] for i in order])
    assert moved == pytest.approx([found[i] for i in order], rel=1e-9, abs=1e-12)
    if found != [1.0] * len(pairs):  # what stands for "all alike" has no unit
        scaled = discounted([value * factor for value in values], [error * factor for error in errors])
        assert scaled == pytest.approx([value * factor for value in found], rel=1e-6, abs=1e-6 * factor)


@given(st.lists(st.tuples(st.floats(-1e308, 1e308), st.floats(0, 1e308)), min_size=1, max_size=10))
@example([(6.103515625e-05, 2.4999999999951716e307)])
def test_what_is_finite_stays_finite_and_between_the_score_and_the_centres(pairs):
    values, errors = zip(*pairs, strict=True)
    found = discounted(values, errors)
    assert all(map(math.isfinite, found))
    if found != [1.0] * len(pairs):
        most, least = max(max(values), 0.0), min(min(values), 0.0)
        rounded = max(map(abs, (*values, *errors))) * 5e-324  # what lies 300 orders below the largest loses digits
        below, above = least - abs(least) * 1e-12 - rounded, most + abs(most) * 1e-12 + rounded
        assert all(below <= value <= above for value in found)


@given(st.lists(NUMBERS, min_size=1, max_size=10))
def test_what_is_known_exactly_is_not_touched(values):
    assert discounted(values, [0.0] * len(values)) == pytest.approx(values)


def test_noise_alone_makes_no_difference_in_nineteen_profiles_of_twenty():
    draw = random.Random(0)
    different = negative = 0
    for _ in range(2_000):
        found = discounted([draw.gauss(0, 0.04) for _ in range(12)], [0.04] * 12)
        different += len(set(found)) > 1
        negative += min(found) < 0
    assert different / 2_000 < 0.06
    assert negative / 2_000 < 0.03


def test_layers_of_equal_worth_are_equal_and_one_that_stands_out_does():
    assert len(set(discounted([0.05, 0.06, 0.03, 0.07], [0.03] * 4))) == 1
    *others, last = discounted([0.02, 0.018, 0.022, 0.07], [0.002] * 4)
    assert last == pytest.approx(0.07, abs=1e-3)
    assert max(others) < 0.025


def test_harm_beyond_its_error_stays_negative_and_what_may_be_noise_does_not():
    assert discounted([-1.0, 0.0, 0.1], [0.1, 0.1, 0.1])[0] < -0.9
    assert min(discounted([-0.1, 1.0, 2.0], [0.1, 0.1, 0.1])) == 0


@pytest.mark.parametrize("units", [1, 12, 560])
def test_more_units_need_more_to_stand_out(units):
    assert told_from_zero(-quantile(units) * 1.001, 1.0, units)
    assert not told_from_zero(quantile(units) * 0.999, 1.0, units)
    assert quantile(units) == pytest.approx({1: 1.96, 12: 2.87, 560: 3.92}[units], abs=0.01)


def profile_with_errors(values, errors, **changes):
    profile = bert_profile(values)
    (scores,) = profile.scores
    by_layer = dict(zip(scores.values, errors, strict=True)) if errors else {}
    return attrs.evolve(profile, scores=(attrs.evolve(scores, errors=by_layer),), **changes)


def test_a_plan_from_noise_is_uniform_and_says_so():
    profile = profile_with_errors([-0.083, 0.045, 0.01, -0.02], [0.05] * 4)
    plan = allocate(profile, strategy="budget")
    assert len({decision.utility for decision in plan.decisions}) == 1
    assert len({decision.method for decision in plan.decisions}) == 1
    (doubt,) = doubts(profile)
    assert doubt.startswith("given: no layer can be told from 0 at its standard error; profile with more samples")


@pytest.mark.parametrize(
    ("values", "errors", "stability", "said"),
    [
        ([1.0, 2.0, 3.0], None, {"given": -0.19}, r"hardly rank the layers alike \(-0.19\)"),
        ([1.0, -2.0, 3.0], None, {}, "scores are negative, and no standard error says"),
        ([1.0, 2.0, 3.0], None, {"given": 0.9}, None),
        ([1.0, 2.0, 3.0], [0.1] * 3, {}, None),
        ([0.0, 0.0, 0.0], [0.0] * 3, {}, None),
    ],
)
def test_what_is_doubtful_is_warned_of(values, errors, stability, said):
    profile = profile_with_errors(values, errors, stability=stability)
    if said is None:
        assert doubts(profile) == []
        return
    with pytest.warns(UserWarning, match=said):
        assert warned(profile) is profile
