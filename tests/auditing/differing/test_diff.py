"""Two runs that differ in one input: it is named, and nothing else is; in several: what each explains is counted."""

import random
import shutil
from itertools import count

import attrs
import pytest

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core import tracing
from layerlens_core.errors import FileError, PlanError
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.costs import Training
from layerlens_core.values.profile import WarmUp
from layerlens_core.values.request import Request
from layerlens_core.values.scores import RawScores

VERSIONS = {"layerlens": "0.1.0", "python": "3.11.9", "torch": "2.13.0"}
PLUGINS = (Plugin(name="mine", distribution="d-mine", version="1"),)
LAYERS = 8


def scores(metric, seed):
    draw = random.Random(seed)
    made = bert_profile([0.2 + draw.random() for _ in range(LAYERS)], granularity="module")
    return attrs.evolve(made.scores[0], metric=metric)


def measured(*found: RawScores, data="a", **more):
    """A profile that supports departing from uniform, with these scores."""
    stability = {each.metric: 0.9 for each in found}
    return attrs.evolve(
        bert_profile([1.0] * LAYERS),
        **{
            "scores": found, "samples": 64, "stability": stability, "module_stability": stability, "data": data * 64,
            "versions": VERSIONS, "settings": {"group": 2, "seed": 0, "dtype": "float32"}, **more,
        },
    )  # fmt: skip


PROFILE = measured(scores("fisher", 1), scores("gora", 2))


@pytest.fixture
def run(tmp_path):
    """Makes a run, with a trace."""
    numbers = count()

    def make(profile=PROFILE, *, versions=VERSIONS, plugins=PLUGINS, registry=None, change=lambda plan: plan, **asked):
        folder = tmp_path / f"run{next(numbers)}"
        with tracing.to_file(folder, run_id="0"):
            tracing.run_started("plan", {}, versions)
            tracing.plugins_seen(Registry(plugins=list(plugins)))
            plan = change(ll.allocate(profile, registry=registry, **{"strategy": "budget", "margins": False, **asked}))
            plan.save(folder)
            profile.save(folder)
        return folder

    return make


def names(found):
    return [each.name for each in found.inputs]


def explains(found):
    return {each.name: None if each.effect.explains is None else len(each.effect.explains) for each in found.inputs}


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


def decided_otherwise(plan):
    """The plan as another version would have made it: rank 1 more for the first layer, 1 less for the second."""
    one, other, *rest = plan.decisions
    return attrs.evolve(plan, decisions=(swapped(one, other), swapped(other, one), *rest))


def swapped(decision, other):
    """A decision with the sizes and the cost of another layer's."""
    sizes = {name.replace(other.unit, decision.unit): size for name, size in other.sizes.items()}
    return attrs.evolve(decision, sizes=sizes, size=other.size, cost=other.cost)


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


WARM_UP = WarmUp(steps=4, rank=8, samples=32, rate=0.1, batch=8, seconds=1.0, peak=0, digest="c" * 64)


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


def of_layers(number, prefix="bert"):
    profile = bert_profile([1.0 + layer for layer in range(number)])
    if prefix != "bert":
        names = profile.inventory
        layers = tuple(
            attrs.evolve(
                layer,
                name=layer.name.replace("bert", prefix),
                attentions=(),
                modules=tuple(
                    attrs.evolve(each, name=each.name.replace("bert", prefix), layer=each.layer.replace("bert", prefix))
                    for each in layer.modules
                ),
            )
            for layer in names.layers
        )
        values = {layer.name: 1.0 for layer in layers}
        scores = attrs.evolve(profile.scores[0], values=values)
        profile = attrs.evolve(profile, inventory=attrs.evolve(names, layers=layers), scores=(scores,))
    return attrs.evolve(profile, data="a" * 64, versions=VERSIONS)


def test_layers_of_the_same_names_are_compared_between_models(run):
    found = ll.diff(run(of_layers(3), budget="params=r=4"), run(of_layers(4), budget="params=r=4"))
    assert names(found) == ["model"]
    assert found.layers == 3
    assert (found.only_first, found.only_second) == ((), ("bert.encoder.layer.3",))
    assert not found.same
    assert found.together == len(found.changed) == len(found.inputs[0].effect.explains)
    with pytest.raises(PlanError, match="have no layer in common"):
        ll.diff(run(of_layers(3)), run(of_layers(3, "roberta")))


# --- traces and files ------------------------------------------------------------------------------------------------


def test_without_a_whole_trace_what_it_would_tell_is_said_to_be_unknown(run):
    first, second = run(), run(budget="params=r=6", plugins=())
    (first / "trace.jsonl").unlink()
    found = ll.diff(first, second)
    assert names(found) == ["budget"]
    assert f"with which versions and plugins {first} was planned is not known" in found.remarks[0]
    first = run()
    content = (first / "trace.jsonl").read_bytes()
    (first / "trace.jsonl").write_bytes(content[: len(content) // 2])
    found = ll.diff(first, second)
    assert names(found) == ["budget", "plugins"]
    assert f"the trace of {first} is damaged" in found.remarks[0]


def test_a_run_that_is_not_whole_is_refused(run, tmp_path):
    whole, part = run(), run()
    (part / "plan.json").unlink()
    for pair in ((whole, part), (part, whole), (whole, tmp_path / "none")):
        with pytest.raises(FileError, match="does not exist"):
            ll.diff(*pair)
    other = run(of_layers(3))
    shutil.copy(other / "plan.json", part)
    with pytest.raises(FileError, match="was not made from this profile"):
        ll.diff(whole, part)


def test_nothing_is_emitted_and_nothing_is_written(run):
    first, second = run(), run(budget="params=r=6", normalizer="log")
    before = {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()}
    with ll.capture_events() as events:
        ll.diff(first, second)
    assert events == []
    assert {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()} == before
