"""Cores as arms: as large as the budget allows, in the subspaces that were asked for."""

import math

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from comparison.arms.random_profiles import case_of, counted, profiles
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.comparison.arms.make import make_arms, rule_of
from layerlens_core.comparison.arms.of_plan import plan_of_arm
from layerlens_core.errors import PluginError
from layerlens_core.plugin.registry import default
from layerlens_core.values.profile import LEADING, WarmUp

WARM_UP = WarmUp(steps=7, rank=4, samples=8, rate=5e-3, batch=2, start="gradient", seconds=1.0, peak=0, digest="b" * 64)
SOURCES = ("core", "core+warm-up", "core+gradient", "core+weights", "core+random")


def made(name, profile, budget, seed=0):
    """The arm of this name, and why there is none."""
    plan = allocate(profile, budget="params=r=4", methods=("none", "lora"))
    arms, dropped = make_arms((name,), (budget,), profile=profile, plan=plan, seed=seed)
    found = [arm for arm in arms if arm.name == name]
    reasons = [each.reason for each in dropped if each.name == name]
    return (found[0] if found else None), (reasons[0] if reasons else "")


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(profile=profiles(), amount=st.integers(1, 3000), name=st.sampled_from(SOURCES), warmed=st.booleans())
def test_they_are_as_large_as_the_budget_allows(profile, amount, name, warmed):
    profile = attrs.evolve(profile, warm_up=WARM_UP if warmed else None)
    arm, reason = made(name, profile, f"params={amount}")
    rank = {
        "core": 4 if warmed else LEADING, "core+warm-up": 4, "core+gradient": LEADING,
    }.get(name, 10**6)  # fmt: skip
    assume(any(min(m.in_features, m.out_features) >= 8 for m in profile.inventory.modules))
    if (name == "core+warm-up" and not warmed) or (name == "core" and not (warmed or profile.directions)):
        assert "profile again with --warm-up 10%" in reason
        return
    if name == "core+gradient" and profile.directions is None:
        assert reason == "the profile holds no directions of the gradient; profile again with --directions"
        return
    if arm is None:
        assert "the cheapest candidate, core of size 1, takes" in reason or "the least that it trains" in reason
        assert amount < len(profile.inventory.modules)
        return
    shapes = profile.inventory.shapes
    places = [m.name for m in profile.inventory.modules if min(m.in_features, m.out_features) >= 8]
    sizes = {place: arm.sizes["core"].get(place, 0) for place in places}
    assert set(arm.sizes) == {"core"}
    assert arm.parameters == counted(arm, profile.inventory) == sum(size**2 for size in sizes.values()) <= amount
    caps = {place: min(*shapes[place].values(), rank) for place in places}
    assert all(size <= caps[place] for place, size in sizes.items())
    # What is left buys no further step anywhere.
    assert all(sizes[place] == caps[place] or arm.parameters + 2 * sizes[place] + 1 > amount for place in places)
    # Equal widths have equal sizes, but for one step.
    for one in places:
        for other in places:
            if sum(shapes[one].values()) <= sum(shapes[other].values()) and caps[one] <= caps[other]:
                assert sizes[one] <= sizes[other] + 1
    expected = {
        "core": "b" * 64 if warmed else profile.directions, "core+warm-up": "b" * 64,
        "core+gradient": profile.directions, "core+weights": "weights", "core+random": "random",
    }[name]  # fmt: skip
    assert arm.subspace == expected
    plan = plan_of_arm(arm, profile, registry=default())
    assert plan.subspace == (None if expected in ("weights", "random") else expected)


@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(profile=profiles(), share=st.sampled_from(["1", "0.5", "0.25"]))
def test_below_rank_one_they_have_that_share_of_the_parameters(profile, share):
    places = [m for m in profile.inventory.modules if min(m.in_features, m.out_features) >= 8]
    assume(len(places) == len(list(profile.inventory.linears())))
    assume(float(share) * profile.inventory.lora_parameters(1) >= len(places))
    arm, _ = made("core+weights", profile, f"r={share}")
    assert arm is not None
    assert arm.parameters <= float(share) * profile.inventory.lora_parameters(1)
    for module in places:
        wanted = math.isqrt(int(float(share) * (module.in_features + module.out_features)))
        assert arm.sizes["core"].get(module.name, 0) >= min(wanted, module.in_features, module.out_features)


@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(profile=profiles(), rank=st.integers(1, 8))
def test_one_size_everywhere_lies_in_what_the_profile_holds(profile, rank):
    assume(any(min(m.in_features, m.out_features) >= 8 for m in profile.inventory.modules))
    arm, reason = made("method:core", profile, f"r={rank}")
    if profile.directions is None:
        assert "the profile holds no subspaces" in reason
    else:
        assert arm is not None
        assert arm.subspace == profile.directions


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(profile=profiles())
def test_names_of_sources(profile):
    with pytest.raises(PluginError, match="no start of LoRA is named 'weight', as in the arm 'core\\+weight'"):
        rule_of("core+weight", profile, default())
    case = case_of(profile, allocate(profile, budget="params=r=4", methods=("none", "lora")), "r=4")
    assume(any(min(m.in_features, m.out_features) >= 8 for m in profile.inventory.modules))
    with pytest.raises(Unfit, match="it holds no LoRA whose start could be chosen"):
        rule_of("core+weights+by-rank", profile, default())(case)
