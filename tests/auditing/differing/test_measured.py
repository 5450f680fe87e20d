"""What was measured is taken from another profile as a whole, one result at a time, and what was asked for apart."""

import attrs
from auditing.differing.runs import (
    PROFILE,
    VERSIONS,
    decided_otherwise,
    explains,
    measured,
    names,
    scores,
)

import layerlens_core as ll
from layerlens_core.values.profile import WarmUp


def test_measured_again_by_another_version_both_ways_count(run):
    """Of other versions come other scores, and two decisions that no scores explain."""
    later = {**VERSIONS, "layerlens": "0.2.0"}
    other = measured(scores("fisher", 3), scores("gora", 4), versions=later)
    found = ll.diff(run(), run(other, versions=later, change=decided_otherwise))
    assert names(found) == ["versions"]
    assert explains(found) == {"versions": len(found.changed)}
    assert [part.name for part in found.inputs[0].parts] == ["scores of fisher", "scores of gora"]
    assert found.unexplained == ()


def test_results_of_measuring_are_taken_one_at_a_time(run):
    other = measured(scores("fisher", 9), PROFILE.scores[1], data="b", samples=65, stability={"fisher": 0.8})
    found = ll.diff(run(weights={"fisher": 1, "gora": 0}), run(other, weights={"fisher": 1, "gora": 0}))
    (data,) = found.inputs
    assert [part.name for part in data.parts] == ["scores of fisher", "stability", "number of samples"]
    assert [len(part.explains) for part in data.parts] == [len(found.changed), 0, 0]


WARM_UP = WarmUp(steps=4, rank=8, samples=32, rate=0.1, batch=8, start="random", seconds=1.0, peak=0, digest="c" * 64)


def warmed(warm_up=WARM_UP, **more):
    """The profile with a warm-up, and the metric that comes along."""
    beside = scores("loss_change", 7)
    return attrs.evolve(PROFILE, scores=(*PROFILE.scores, beside), warm_up=warm_up, **more)


def test_what_comes_along_with_a_warm_up_is_no_input(run):
    longer = attrs.evolve(WARM_UP, steps=9)
    for pair in ((PROFILE, warmed()), (warmed(), PROFILE), (warmed(), warmed(longer))):
        found = ll.diff(*map(run, pair))
        assert (names(found), found.same, found.remarks) == (["warm-up"], True, ())
    again = attrs.evolve(WARM_UP, seconds=2.0, digest="d" * 64)
    assert names(ll.diff(run(warmed()), run(warmed(again)))) == []


def test_a_warm_up_that_cores_lie_in_is_an_input_of_its_own(run):
    """Below rank 1 cores are chosen by themselves where there are subspaces."""
    asked = {"strategy": "tempered", "budget": "params=r=0.25"}
    found = ll.diff(run(PROFILE, **asked), run(warmed(latency={"lora": (0.1, 0.1)}), **asked))
    assert names(found) == ["warm-up", "latency"]
    assert {each.after.method for each in found.changed} == {"core"}
    assert explains(found) == {"warm-up": len(found.changed), "latency": 0}
    back = ll.diff(found.second, found.first)
    assert explains(back) == {"warm-up": len(found.changed), "latency": 0}


def test_weights_that_are_asked_for_stay_when_a_warm_up_comes_along(run):
    weights = {"fisher": 1, "gora": 3}
    found = ll.diff(run(weights=weights), run(warmed(), weights={**weights, "loss_change": 0}))
    assert (names(found), found.same, found.remarks) == (["warm-up"], True, ())
    weighed = ll.diff(run(weights=weights), run(warmed(), weights={"fisher": 1, "gora": 3, "loss_change": 9}))
    assert names(weighed) == ["warm-up", "weights"]
    assert weighed.combinations[0].inputs == ("warm-up", "weights")


def test_what_was_measured_together_is_not_told_apart(run):
    other = measured(
        scores("fisher", 3), scores("gora", 4), data="b", settings={"group": 2, "seed": 1, "dtype": "bfloat16"}
    )
    later = {**VERSIONS, "torch": "2.14.0"}
    found = ll.diff(run(), run(attrs.evolve(other, versions=later), versions=later))
    assert names(found) == ["data, settings and versions"]
    assert "settings dtype float32, seed 0; versions torch 2.13.0" in found.inputs[0].before
    again = ll.diff(run(), run(measured(scores("fisher", 3), PROFILE.scores[1])))
    assert names(again) == ["measurements"]


def test_versions_and_plugins_that_plan_alike_explain_nothing(run):
    later = {**VERSIONS, "torch": "2.14.0"}
    found = ll.diff(run(), run(budget="params=r=6", versions=later, plugins=()))
    assert names(found) == ["budget", "versions and plugins"]
    assert explains(found) == {"budget": len(found.changed), "versions and plugins": 0}
    assert found.inputs[1].after == "versions torch 2.14.0; plugins mine not there"
