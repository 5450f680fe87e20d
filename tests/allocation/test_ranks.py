"""A smallest and a largest rank hold for every strategy, and what cannot be is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import BudgetError, PlanError

STRATEGIES = ("tempered", "uniform", "threshold", "budget", "cost-benefit")


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=12)
@given(
    scores=st.lists(st.floats(0.01, 100), min_size=2, max_size=5),
    granularity=st.sampled_from(["layer", "module"]),
    rank=st.integers(1, 80),
    least=st.integers(1, 12),
    more=st.integers(0, 90),
)
def test_trained_modules_keep_to_the_ranks_that_were_asked_for(strategy, scores, granularity, rank, least, more):
    profile = bert_profile(scores, granularity=granularity)
    asked = {"min_rank": least, "max_rank": least + more, "abstain": False, "margins": False}
    try:
        planned = allocate(profile, strategy=strategy, budget=f"params=r={rank}", **asked)
    except BudgetError:
        assert rank * len(scores) < least + 1  # not even one layer can be trained
        return
    ranks = planned.sizes("lora").values()
    assert all(least <= each <= min(least + more, 96) for each in ranks)
    assert planned.parameters <= planned.limit
    if least <= rank and strategy != "cost-benefit":  # which weighs costs
        assert len(ranks) == 6 * len(scores)


@pytest.mark.parametrize("strategy", ["tempered", "uniform", "threshold", "budget"])
def test_a_budget_of_a_large_rank_is_used_up_where_that_is_allowed(strategy):
    planned = allocate(
        bert_profile([1, 2, 3], width=600), strategy=strategy, budget="params=r=512", max_rank=600, abstain=False,
        margins=False,
    )  # fmt: skip
    assert planned.parameters > 0.99 * planned.limit
    assert max(planned.sizes("lora").values()) >= 512


def test_a_size_that_there_is_no_room_for_is_the_largest_that_there_is():
    planned = allocate(bert_profile([1, 2]), strategy="uniform", budget="params=50%", min_rank=200, max_rank=300)
    assert set(planned.sizes("lora").values()) == {96}


def test_the_smallest_rank_in_proportion_holds_for_the_useful_too():
    planned = allocate(bert_profile([1, 10, 1000]), budget="params=r=12", min_rank=10, abstain=False, margins=False)
    ranks = planned.sizes("lora").values()
    assert min(ranks) == 10
    assert max(ranks) > 12


def test_widths_and_lengths_of_other_methods_are_no_ranks():
    planned = allocate(
        bert_profile([1, 2]), strategy="uniform", methods="adapter", budget="params=30k", max_rank=4, margins=False
    )
    assert min(planned.sizes("adapter").values()) > 4


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"min_rank": 9, "max_rank": 8}, "min_rank=9 is above max_rank=8"),
        ({"max_rank": 0}, "max_rank is a whole number of at least 1, not 0"),
        ({"min_rank": 1.5}, "min_rank is a whole number of at least 1, not 1.5"),
        ({"scale": 0}, "scale is a whole number of at least 1, not 0"),
    ],
)
def test_ranks_that_cannot_be_are_refused(asked, told):
    with pytest.raises(PlanError, match=told):
        allocate(bert_profile([1, 2]), **asked)


def test_the_request_holds_them_and_gives_the_same_plan_again():
    from layerlens_core.allocation.allocate import plan_for

    profile = bert_profile([1, 2])
    planned = allocate(profile, min_rank=3, max_rank=100, scale=1)
    assert (planned.request.min_rank, planned.request.max_rank, planned.scale) == (3, 100, 1)
    assert plan_for(profile, planned.request) == planned
