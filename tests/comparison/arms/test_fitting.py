"""Sizes that use a budget up, against trying every one of them."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from comparison.arms.random_profiles import case_of, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.fitting import fill, largest, level
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.errors import BudgetError


def _ground(profile, budget):
    plan = allocate(profile, budget="params=r=2")
    try:
        return case_of(profile, plan, budget).ground("lora")
    except BudgetError:
        assume(False)
        raise


@settings(max_examples=40)
@given(profile=profiles(), share=st.floats(0.5, 1.5), kind=st.sampled_from(["params", "memory", "flops"]))
def test_what_is_added_step_by_step_costs_what_the_whole_costs(profile, share, kind):
    plan = allocate(profile, budget="params=r=2")
    ground = _ground(profile, f"{kind}={share * getattr(plan.cost, kind):.0f}")
    places = ground.places("lora")
    sizes = fill(ground, "lora", {}, places[::-1])
    assume(sizes)
    assert ground.fits(ground.cost({"lora": sizes}))
    left_out = [place for place in places if place.name not in sizes]
    # By brute force: no place that was left out fits any more, as the whole is counted.
    assert not any(ground.fits(ground.cost({"lora": {**sizes, place.name: 1}})) for place in left_out)


@settings(max_examples=40)
@given(profile=profiles(), amount=st.integers(1, 3000))
def test_the_level_is_the_last_that_fits(profile, amount):
    ground = _ground(profile, f"params={amount}")
    places = ground.places("lora")
    by_hand = [
        size for size in range(1, 41) if sum(min(size, place.cap) * place.target.per_size for place in places) <= amount
    ]
    try:
        sizes = level(ground, "lora", places)
    except Unfit:
        assert not by_hand
    else:
        assert sizes == {place.name: min(by_hand[-1], place.cap) for place in places}


@settings(max_examples=40)
@given(profile=profiles(), amount=st.integers(1, 3000))
def test_the_largest_factor_leaves_no_room_for_a_larger_one(profile, amount):
    ground = _ground(profile, f"params={amount}")
    places = ground.places("lora")

    def sizes_at(factor):
        return {place.name: min(int(factor * (at % 3)), place.cap) for at, place in enumerate(places)}

    try:
        factor, sizes = largest(ground, "lora", sizes_at)
    except Unfit:
        # Sizes change at halves and wholes: the first that train anything do not fit.
        first = next((sizes for factor in (0.5, 1.0) if any((sizes := sizes_at(factor)).values())), None)
        assert first is None or not ground.fits(ground.cost({"lora": first}))
        return
    assert sizes == sizes_at(factor)
    assert ground.fits(ground.cost({"lora": sizes}))
    more = sizes_at(factor * (1 + 1e-9))
    assert more == sizes or not ground.fits(ground.cost({"lora": more}))
