"""Findings in words."""

import pytest

from layerlens_core.comparison.judging.curves import Excess, Factor, Sufficient, Times
from layerlens_core.comparison.judging.judgement import Range
from layerlens_core.comparison.judging.sentences import compared, enough, finding, multiple, probability
from layerlens_core.comparison.judging.statistics import Difference


def difference(low, high, p=0.01):
    return Difference(estimate=(low + high) / 2, low=low, high=high, p=p, flips=0.25, floor=0.25, seeds=3, examples=100)


@pytest.mark.parametrize(
    ("low", "high", "corrected", "found"),
    [
        (-2, -1, 0.01, "better"),
        (1, 2, 0.01, "worse"),
        (-2, 1, 0.01, "no difference"),
        (-2, 0, 0.01, "no difference"),
        (-2, -1, 0.06, "no difference"),
        (-2, -1, None, "no difference"),
    ],
)
def test_a_finding_needs_the_interval_and_the_corrected_p(low, high, corrected, found):
    assert finding(difference(low, high), corrected, 0.95) == found


def test_what_is_shown_is_told_with_its_interval_and_factor():
    factor = Factor(estimate=Times(times=1.21), low=Times(times=1.04), high=Times(times=4.0, bound="more"))
    text = compared("better", difference(-2, -1), Range(estimate=-0.017, low=-0.031, high=-0.003), 0.012, factor)
    assert text == (
        "better than uniform by 1.70% of its loss (0.30% to 3.10%; p = 0.012); uniform would need 1.21 times "
        "(1.04 to more than 4) the parameters"
    )


def test_what_is_not_shown_is_told_with_what_it_may_be():
    ratio = Range(estimate=-0.001, low=-0.01, high=0.008)
    assert compared("no difference", difference(-1, 1), ratio, 0.7) == (
        "no difference to uniform that this evidence can show (-1.00% to +0.80% of its loss; p = 0.70)"
    )
    assert "one seed says nothing of others" in compared("no difference", difference(-1, 1), ratio, None)
    lost = compared("no difference", difference(-2, -1), ratio, 0.2)
    assert lost.endswith("its own interval leaves zero out, but many arms were compared")


def test_a_multiple_whose_ends_are_the_same_bound_is_told_once():
    bound = Times(times=4.0, bound="more")
    assert multiple(Factor(estimate=bound, low=bound, high=bound)) == "more than 4 times"


def test_probabilities_have_as_many_digits_as_matter():
    assert [probability(p) for p in (1e-5, 0.0123, 0.456, None)] == ["p < 0.001", "p = 0.012", "p = 0.46", "no p"]


@pytest.mark.parametrize(
    ("least", "surely", "words"),
    [
        ("r=1", "r=1", "r=1 is enough: 0.40% above the best, r=2, where 1.0% is allowed; seeds and examples bear"),
        ("r=1", "r=2", "this evidence is sure only of r=2"),
        ("r=2", None, "r=2 has the least loss, and no smaller budget is within 1.0% of it; of none this evidence"),
    ],
)
def test_which_budget_is_enough(least, surely, words):
    budgets = (
        Excess(budget="r=1", parameters=1, ratio=1.004, most=1.02),
        Excess(budget="r=2", parameters=2, ratio=1.0, most=1.001),
    )
    found = Sufficient(arm="uniform", budgets=budgets, best="r=2", enough=least, surely=surely, tolerance=0.01)
    assert words in enough(found)
