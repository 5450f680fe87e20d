"""Predicted gains of whole plans, against sums that are written out."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.predicted import gain_of, predicted_gain
from layerlens_core.allocation.problem import pose

METHODS = ("none", "prefix", "adapter", "lora")


def problem_of(scores, granularity="module", **asked):
    profile = bert_profile(scores, granularity=granularity)
    plan = allocate(profile, **{"budget": "params=r=4", "abstain": False, "margins": False, **asked})
    return pose(profile, plan.request), plan


def gain_at(unit, method, size):
    """The gain of one candidate, looked for among all of them."""
    return next(c.gain for c in unit.candidates if (c.method, c.size) == (method, size))


def reference(candidates, decisions):
    """The same, place by place."""
    total = 0.0
    for unit in candidates.units:
        decision = next(each for each in decisions if each.unit == unit.name)
        worth = {place: unit.importance.get(place, 0.0) for place in decision.sizes}
        if sum(worth.values()) == 0:
            worth = dict.fromkeys(worth, 1.0)
        for place, size in decision.sizes.items():
            if size:
                total += gain_at(unit, decision.method, size) * worth[place] / sum(worth.values())
    return total


@given(
    scores=st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    rank=st.integers(1, 12),
    granularity=st.sampled_from(["layer", "module"]),
    strategy=st.sampled_from(["tempered", "budget", "threshold", "uniform"]),
)
def test_it_is_the_sum_over_places(scores, rank, granularity, strategy):
    asked = {"strategy": strategy, "budget": f"params=r={rank}"}
    if strategy in ("budget", "threshold"):
        asked["methods"] = METHODS
    problem, plan = problem_of(scores, granularity, **asked)
    found = predicted_gain(problem.candidates, plan.decisions)
    assert found == pytest.approx(reference(problem.candidates, plan.decisions), rel=1e-12, abs=1e-15)


def test_of_equal_sizes_it_is_the_certificate():
    problem, plan = problem_of([1.0, 2.0, 5.0], "layer", strategy="budget", methods=METHODS)
    assert plan.certificate is not None
    assert predicted_gain(problem.candidates, plan.decisions) == pytest.approx(plan.certificate.value)


def test_larger_sizes_gain_more_and_none_gains_nothing():
    problem, plan = problem_of([1.0, 2.0])
    unit, decision = problem.candidates.units[0], plan.decisions[0]
    larger = attrs.evolve(decision, sizes={place: size + 1 for place, size in decision.sizes.items()})
    assert 0 < gain_of(unit, decision) < gain_of(unit, larger) < unit.utility
    assert gain_of(unit, attrs.evolve(decision, method="none", size=0, sizes={})) == 0


def test_layers_that_were_not_scored_gain_nothing():
    problem, plan = problem_of([1.0, 2.0])
    unknown = attrs.evolve(plan.decisions[0], unit="elsewhere")
    alone = predicted_gain(problem.candidates, plan.decisions[1:])
    assert predicted_gain(problem.candidates, (unknown, *plan.decisions[1:])) == alone
    assert math.isfinite(alone)
