"""Two runs that differ in one input: it is named, and nothing else is; in several: what each explains is counted."""

import random

import attrs
import pytest
from auditing.differing.runs import (
    PLUGINS,
    PROFILE,
    VERSIONS,
    decided_otherwise,
    explains,
    measured,
    names,
    of_layers,
    scores,
)

import layerlens_core as ll
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.costs import Training
from layerlens_core.values.request import Request

# --- ten pairs, each of which differs in one input -------------------------------------------------------------------

#: By the input's name: what the first run has, and what the second has.
PAIRS = {
    "data": ({}, {"profile": measured(scores("fisher", 3), scores("gora", 4), data="b", samples=48)}),
    "metrics": ({"profile": measured(scores("fisher", 1))}, {}),
    "weights": ({"weights": {"fisher": 1, "gora": 1}}, {"weights": {"fisher": 0, "gora": 1}}),
    "budget": ({"budget": "params=r=4"}, {"budget": "params=r=8"}),
    "strategy": ({}, {"strategy": "tempered"}),
    "options": (
        {"strategy": "threshold", "options": {"quantiles": "0.5"}, "methods": "lora"},
        {"strategy": "threshold", "options": {"quantiles": "0.25"}, "methods": "lora"},
    ),
    "methods": ({"methods": "lora"}, {"methods": "adapter"}),
    "normalizer": ({"normalizer": "share"}, {"normalizer": "rank"}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_an_input_that_differs_alone_is_named_alone_and_explains_all(run, name):
    first, second = PAIRS[name]
    found = ll.diff(run(**first), run(**second))
    assert names(found) == [name]
    assert found.changed
    assert not found.same
    assert explains(found) == {name: len(found.changed)}
    assert found.inputs[0].effect.elsewhere == ()
    assert found.inputs[0].before != found.inputs[0].after
    assert found.together == len(found.changed)
    assert (found.combinations, found.unexplained, found.remarks) == ((), (), ())


def test_another_version_is_named_by_what_the_inputs_do_not_explain(run):
    later = {**VERSIONS, "layerlens": "0.2.0"}
    first = run()
    second = run(attrs.evolve(PROFILE, versions=later), versions=later, change=decided_otherwise)
    found = ll.diff(first, second)
    assert names(found) == ["versions"]
    assert (found.inputs[0].before, found.inputs[0].after) == ("layerlens 0.1.0", "layerlens 0.2.0")
    assert explains(found) == {"versions": 2}
    assert found.unexplained == ()
    assert [each.unit for each in found.changed] == list(found.inputs[0].effect.explains)
    assert len(found.remarks) == 1
    assert f"inputs of {second} give other decisions here" in found.remarks[0]
    backwards = ll.diff(second, first)
    assert explains(backwards) == {"versions": 2}
    assert f"inputs of {second} give other decisions here" in backwards.remarks[0]


def by_rank(rank):
    def select(candidates, limits, context):
        best = max(candidates.units, key=lambda unit: unit.utility)
        return [unit.decide("lora", rank if unit is best else 1, reason="best") for unit in candidates.units]

    registry = Registry.discover()
    registry.register(ll.strategy("mine", select))
    return registry


def test_another_version_of_a_plugin_is_named(run):
    plugins = (attrs.evolve(PLUGINS[0], version="2"),)
    asked = {"strategy": "mine", "methods": "lora"}
    first = run(registry=by_rank(2), **asked)
    second = run(registry=by_rank(3), plugins=plugins, **asked)
    for installed in (2, 3):
        found = ll.diff(first, second, registry=by_rank(installed))
        assert names(found) == ["plugins"]
        assert (found.inputs[0].before, found.inputs[0].after) == ("mine d-mine 1", "mine d-mine 2")
        assert explains(found) == {"plugins": 1} == {"plugins": len(found.changed)}
    missing = ll.diff(first, second)
    assert names(missing) == ["plugins"]
    assert explains(missing) == {"plugins": None}
    assert "'mine'" in missing.inputs[0].effect.refused
    for folder, remark in zip((first, second), missing.remarks, strict=True):
        assert f"{folder} cannot be planned anew here" in remark


CURVES = {"lora": (1.0, 2.0), "adapter": (0.9, 1.0)}
BOTH = {"methods": "lora,adapter"}
#: The fields of a request that are not among the ten.
OTHERS = {
    "aggregator": ({}, {"aggregator": "weighted-max"}),
    "granularity": ({"strategy": "tempered"}, {"strategy": "tempered", "granularity": "layer"}),
    "abstain": ({"strategy": "tempered", "profile": measured(scores("fisher", 1), samples=4)},
                {"strategy": "tempered", "profile": measured(scores("fisher", 1), samples=4), "abstain": False}),
    "gains": ({"gains": CURVES, **BOTH}, {"gains": {**CURVES, "lora": (0.1, 2.0)}, **BOTH}),
    "penalties": ({"gains": CURVES, **BOTH}, {"gains": CURVES, "penalties": {"lora": 9.0}, **BOTH}),
    "training": ({"budget": "memory=50MiB"}, {"budget": "memory=50MiB", "training": Training(batch=9)}),
    "scale": ({}, {"scale": 4}),
    "min_rank": ({"strategy": "tempered"}, {"strategy": "tempered", "min_rank": 5}),
    "max_rank": ({"strategy": "tempered"}, {"strategy": "tempered", "max_rank": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_field_of_a_request_is_named_alone_too(run, name):
    first, second = OTHERS[name]
    found = ll.diff(run(**first), run(**second))
    assert names(found) == [name]
    assert explains(found) == {name: len(found.changed)}
    assert bool(found.changed) == (name != "scale")
    assert found.remarks == ()


def test_the_pairs_are_of_every_field():
    fields = {each.name for each in attrs.fields(Request)}
    assert {*PAIRS, *OTHERS} - {"data", "metrics"} >= fields - {"margins"}


# --- several inputs --------------------------------------------------------------------------------------------------


def test_what_only_two_inputs_change_together_is_told(run):
    first = run(budget="params=r=4", normalizer="share")
    second = run(budget="params=r=8", normalizer="log")
    found = ll.diff(first, second)
    assert names(found) == ["normalizer", "budget"]
    assert [each.inputs for each in found.combinations] == [("normalizer", "budget")]
    alone = {unit for each in found.inputs for unit in each.effect.explains}
    assert alone
    assert alone | set(found.combinations[0].explains) == {each.unit for each in found.changed}
    assert not alone & set(found.combinations[0].explains)
    assert found.together == len(found.changed)


CHANGES: dict[str, dict] = {
    "weights": {"weights": {"fisher": 1, "gora": 3}},
    "normalizer": {"normalizer": "rank"},
    "strategy": {"strategy": "threshold", "options": {"quantiles": "0.5"}},
    "budget": {"budget": "params=r=3"},
    "methods": {"methods": "lora,adapter"},
    "penalties": {"penalties": {"lora": 2.0}},
    "training": {"training": Training(batch=2)},
    "scale": {"scale": 4},
    "data": {"profile": measured(scores("fisher", 3), scores("gora", 4), data="b")},
}


@pytest.mark.parametrize("seed", range(12))
def test_all_inputs_that_differ_are_named_whatever_they_are(run, seed):
    chosen = random.Random(seed).sample(sorted(CHANGES), 1 + seed % 5)
    asked = {name: value for each in chosen for name, value in CHANGES[each].items()}
    first = run(strategy="budget", methods="lora")
    found = ll.diff(first, run(**{"methods": "lora", **asked}))
    assert sorted(names(found)) == sorted(chosen)
    assert found.together == len(found.changed)
    assert found.unexplained == ()
    assert found.remarks == ()


def test_an_effect_is_what_planning_with_that_input_gives(run):
    """Against the slow way: each input put into a request by hand."""
    first, second = run(budget="params=r=4"), run(budget="params=r=6", normalizer="log", strategy="tempered")
    found = ll.diff(first, second)
    after = {each.unit: each.after for each in found.changed}
    alone = {"budget": "params=r=6"}, {"normalizer": "log"}, {"strategy": "tempered"}
    for asked in alone:
        plan = ll.allocate(PROFILE, margins=False, **{"strategy": "budget", "budget": "params=r=4", **asked})
        got = {each.unit: (each.method, dict(each.sizes)) for each in plan.decisions}
        explained = [unit for unit in after if got[unit] == (after[unit].method, dict(after[unit].sizes))]
        (effect,) = [each.effect for each in found.inputs if each.name in asked]
        assert list(effect.explains) == explained


def test_an_input_that_cannot_be_taken_alone_says_why(run):
    first = run(weights={"fisher": 1, "gora": 2})
    second = run(measured(*PROFILE.scores, scores("eva", 5)), weights={"fisher": 1, "gora": 1, "eva": 2})
    found = ll.diff(first, second)
    assert names(found) == ["metrics", "weights"]
    assert "eva" in found.inputs[0].effect.refused
    assert explains(found) == {"metrics": 0, "weights": 0}
    assert found.combinations[0].inputs == ("metrics", "weights")
    assert len(found.combinations[0].explains) == len(found.changed)


def test_a_change_that_no_input_explains_is_said_to_be_that(run):
    found = ll.diff(run(), run(change=decided_otherwise))
    assert names(found) == []
    assert len(found.changed) == 2
    assert list(found.unexplained) == [each.unit for each in found.changed]
    assert f"the inputs of {found.second} give other decisions here than it holds, on 2 layers" in found.remarks[0]


# --- no difference, and other models ---------------------------------------------------------------------------------


def test_equal_runs_have_no_difference_and_inputs_without_effect_are_told_all_the_same(run):
    same = ll.diff(run(), run())
    assert same.same
    assert (same.changed, same.inputs, same.remarks, same.unexplained) == ((), (), (), ())
    scale = ll.diff(run(), run(scale=4))
    assert scale.same
    assert names(scale) == ["scale"]
    assert (scale.inputs[0].before, scale.inputs[0].after) == ("2", "4")


def test_what_follows_from_another_input_is_none(run):
    found = ll.diff(run(strategy="threshold"), run(strategy="tempered"))
    plans = [ll.Plan.load(each).request for each in (found.first, found.second)]
    assert plans[0].granularity != plans[1].granularity
    assert plans[0].abstain != plans[1].abstain
    assert names(found) == ["strategy"]


def test_layers_of_the_same_names_are_compared_between_models(run):
    found = ll.diff(run(of_layers(3), budget="params=r=4"), run(of_layers(4), budget="params=r=4"))
    assert names(found) == ["model"]
    assert found.layers == 3
    assert (found.only_first, found.only_second) == ((), ("bert.encoder.layer.3",))
    assert not found.same
    assert found.together == len(found.changed) == len(found.inputs[0].effect.explains)
    with pytest.raises(PlanError, match="have no layer in common"):
        ll.diff(run(of_layers(3)), run(of_layers(3, "roberta")))
