"""Flips: each was seen, is the nearest there is to three digits, and is told in words."""

import time

import attrs
import pytest

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.allocation.explanation import explain, without_margins
from layerlens_core.allocation.margins import (
    FARTHEST,
    Flip,
    OutOfTime,
    budget_flips,
    describe,
    penalty_flips,
    scaled,
    utility_flip,
    within,
)
from layerlens_core.errors import BudgetError
from layerlens_core.plugin.registry import Registry
from layerlens_core.tracing import to_file
from layerlens_core.values.candidates import Candidate, CandidateSet, Target, Unit
from layerlens_core.values.costs import Cost, Limits

LORA = Candidate(method="lora", size=1, cost=Cost(params=10), gain=0.5)
UNIT = Unit(
    name="L0",
    utility=0.5,
    candidates=(Candidate(method="none", size=0, cost=Cost(), gain=0.0), LORA),
    targets={"none": (), "lora": (Target(name="L0.w", fixed=0, per_size=10),)},
    notches={"none": 1, "lora": 1},
)
CANDIDATES = CandidateSet(units=(UNIT,), methods=("none", "lora"))
LIMITS = Limits(params=100)


def above(bar, cost=10):
    """Trains the unit where its gain is at least the bar, and the budget at least the cost."""

    def decide(candidates, limits):
        (unit,) = candidates.units
        gain = max(candidate.gain for candidate in unit.candidates)
        if gain >= bar and limits.params >= cost:
            return [unit.decide("lora", 1, reason="")]
        return [unit.decide("none", reason="")]

    return decide


def decision(decide):
    return decide(CANDIDATES, LIMITS)[0]


@pytest.mark.parametrize(("bar", "becomes"), [(0.4, "none"), (0.7, "lora of size 1")])
def test_the_nearest_flip_of_a_utility_is_at_the_bar(bar, becomes):
    decide = above(bar)
    flip = utility_flip(decide, CANDIDATES, LIMITS, decision(decide))
    assert (flip.subject, flip.name, flip.becomes) == ("utility", "L0", becomes)
    assert flip.factor == pytest.approx(bar / 0.5, rel=2e-3)
    # It was seen: what is said to flip does.
    changed = attrs.evolve(CANDIDATES, units=(UNIT.with_utility(0.5 * flip.factor),))
    assert decide(changed, LIMITS)[0].method != decision(decide).method


@pytest.mark.parametrize("bar", [0.5 / FARTHEST / 2, 0.5 * FARTHEST * 2])
def test_farther_than_sixteenfold_nothing_is_looked_for(bar):
    decide = above(bar)
    assert utility_flip(decide, CANDIDATES, LIMITS, decision(decide)) is None


def test_a_layer_without_utility_has_none_to_change():
    nothing = UNIT.decide("none", reason="")
    assert utility_flip(above(1.0), CANDIDATES, LIMITS, attrs.evolve(nothing, utility=0.0)) is None


def test_a_penalty_divides_gains():
    decide = above(0.4)
    (flip,) = penalty_flips(decide, CANDIDATES, LIMITS, decision(decide))
    assert (flip.name, flip.becomes) == ("lora", "none")
    assert flip.factor == pytest.approx(0.5 / 0.4, rel=2e-3)


def test_a_bound_flips_where_the_cost_no_longer_fits():
    decide = above(0.1, cost=60)
    (flip,) = budget_flips(decide, CANDIDATES, LIMITS, decision(decide))
    assert (flip.subject, flip.name, flip.becomes) == ("budget", "params", "none")
    assert 59 <= scaled(LIMITS, "params", flip.factor).params < 60


def test_no_plan_at_all_is_no_other_method():
    decide = above(0.1, cost=60)

    def refuses(candidates, limits):
        if limits.params < 60:
            raise BudgetError("too small")
        return decide(candidates, limits)

    assert budget_flips(refuses, CANDIDATES, LIMITS, decision(decide)) == []


def test_one_bound_is_scaled_and_parameters_stay_whole():
    limits = Limits(params=7, flops=10.0)
    assert scaled(limits, "params", 0.5) == Limits(params=3, flops=10.0)
    assert scaled(limits, "flops", 0.25) == Limits(params=7, flops=2.5)


@pytest.mark.parametrize(
    ("subject", "name", "words"),
    [
        ("utility", "L0", "none, if its utility were 0.250000"),
        ("penalty", "lora", "none, if the penalty of lora were 0.5 times what it is"),
        ("budget", "params", "none, if the budget were params=50"),
    ],
)
def test_a_flip_is_told_with_the_value_that_brings_it_about(subject, name, words):
    assert describe(Flip(subject=subject, name=name, factor=0.5, becomes="none"), LIMITS, 0.5) == words


def test_margins_that_nobody_asked_for_never_take_long():
    calls = []

    def slow(candidates, limits, context):
        calls.append(context)
        time.sleep(0.3)
        return [unit.decide("lora", 2, reason="") for unit in candidates.units]

    registry = Registry.discover()
    registry.register(ll.strategy("slow", slow))
    plan = allocate(bert_profile([1.0, 2.0, 3.0]), strategy="slow", registry=registry)
    assert len(calls) == 1  # once is enough to know
    assert {each.margin for each in plan.decisions} == {None}


def test_margins_are_left_out_under_several_bounds_unless_they_are_asked_for(tmp_path):
    arguments = {"strategy": "budget", "budget": Budget(params="r=4", memory="60%"), "methods": ("lora",)}
    profile = bert_profile([3.0, 1.0, 0.2])
    with to_file(tmp_path, run_id="abc"):
        plan = allocate(profile, **arguments)
    assert {each.margin for each in plan.decisions} == {None}
    assert "params and memory are bounded together" in without_margins(tmp_path)
    plan.save(tmp_path)
    profile.save(tmp_path)
    assert "bounded together" in explain(tmp_path, "0").without_margins
    with to_file(tmp_path, run_id="abc"):
        allocate(profile, **arguments, margins=True)
    assert without_margins(tmp_path) is None


def test_time_that_is_over_is_over():
    decide = within(above(0.4), -1.0)
    with pytest.raises(OutOfTime):
        utility_flip(decide, CANDIDATES, LIMITS, decision(above(0.4)))
