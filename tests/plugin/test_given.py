"""What providers give is checked where it is given, and a plan that is written can be read again."""

import math

import attrs
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerlens_core as ll
from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import LayerLensError, PlanError, PluginError
from layerlens_core.plugin import Certificate, MethodProvider, Selection, Target, hookimpl
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.plan import Plan

NAMED = "strategy 'mine' of plugin mine"


def allocate_with(select, **arguments):
    registry = Registry.discover()
    registry.register(ll.strategy("mine", select))
    return allocate(bert_profile([1, 2]), strategy="mine", registry=registry, **arguments)


def deciding(*arguments, **fields):
    """A strategy that decides every unit in one way."""
    return lambda candidates, limits, context: [unit.decide(*arguments, **fields) for unit in candidates.units]


def changed(**fields):
    return lambda *arguments: [attrs.evolve(each, **fields) for each in deciding("lora", 2, reason="")(*arguments)]


WRONG = {
    "no size": deciding("none", None, reason="x"),
    "half a size": deciding("lora", 2.5, reason="x"),
    "no reason": deciding("none", reason=None),
    "no method": deciding(None, reason="x"),
    "nothing": lambda *_: None,
    "raises": lambda *_: 1 / 0,
    "a reason that cannot be written": deciding("lora", 2, reason="cat \ud83d"),
    "a runner-up that is no text": deciding("lora", 2, reason="", runner_up=3),
    "a margin of NaN": deciding("lora", 2, reason="", margin=math.nan),
    "an infinite margin": deciding("lora", 2, reason="", margin=math.inf),
    "a utility of NaN": changed(utility=math.nan),
    "a cost of texts": changed(cost="much"),
    "sizes in a list": changed(sizes=[1, 2]),
    "a certificate below its value": lambda *arguments: Selection(
        decisions=deciding("lora", 2, reason="")(*arguments), certificate=Certificate(value=2.0, bound=1.0)
    ),
    "a certificate of NaN": lambda *arguments: Selection(
        decisions=deciding("lora", 2, reason="")(*arguments), certificate=Certificate(value=0.0, bound=math.nan)
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_strategy_gives_is_checked_where_it_is_given(what):
    with pytest.raises(PluginError, match=NAMED) as caught:
        allocate_with(WRONG[what])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (deciding("lora", 65, reason=""), "a size of 65 is above 64, the largest of 'lora' here"),
        (deciding("none", 3, reason=""), "trains nothing, so its size is 0, not 3"),
        (changed(size=9), "is not between the smallest and the largest"),
        (changed(utility=0.5), "its utility is"),
    ],
)
def test_what_makes_no_sense_for_the_unit_is_the_contracts(select, message):
    with pytest.raises(PlanError, match=message):
        allocate_with(select)


def test_numpys_numbers_are_numbers(tmp_path):
    def select(candidates, limits, context):
        decided = [
            unit.decide("lora", numpy.int64(2), reason="", margin=numpy.float64(0.5)) for unit in candidates.units
        ]
        return Selection(
            decisions=[
                attrs.evolve(each, size=numpy.int32(2), utility=numpy.float64(each.utility)) for each in decided
            ],
            certificate=Certificate(value=numpy.float64(1.0), bound=2),
        )

    plan = allocate_with(select)
    plan.save(tmp_path)
    assert Plan.load(tmp_path) == plan
    assert {type(size) for each in plan.decisions for size in (each.size, *each.sizes.values())} == {int}


class Method:
    """LoRA on the first module, but for what a test changes."""

    notch, ceiling, half, penalty, updates_weights = 1, 1.0, 8.0, 1.0, True
    most, places = 4, ({},)

    def __init__(self, **changes):
        self.__dict__.update(changes)

    def targets(self, layer):
        return [Target(**{"name": layer.modules[0].name, "fixed": 0, "per_size": 192} | place) for place in self.places]

    def largest(self, layer):
        return self.most


def allocate_by(method):
    registry = Registry.discover()

    class Mine:
        @staticmethod
        @hookimpl
        def layerlens_methods():
            yield MethodProvider(name="mine", summary="", capacity=50, applicable=True, load=lambda: method)

    registry.register(Mine())
    return allocate(bert_profile([1, 2]), methods=["mine"], strategy="budget", registry=registry)


@pytest.mark.parametrize(
    "changes",
    [
        {"notch": 0}, {"notch": 1.5}, {"ceiling": math.nan}, {"penalty": 0.0}, {"penalty": "1"}, {"half": -1.0},
        {"most": None}, {"most": -1}, {"most": 10**9}, {"most": 2**60},
        {"places": ({"name": "elsewhere"},)}, {"places": ({}, {})}, {"places": ({"per_size": -1},)},
        {"places": ({"flops": math.nan},)}, {"places": ({"fixed": 2**60},)}, {"places": ({"seconds": -1.0},)},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_method_gives_is_checked_where_it_is_given(changes):
    with pytest.raises(PluginError, match="method 'mine' of plugin Mine"):
        allocate_by(Method(**changes))


def test_a_method_may_count_in_numpys_numbers(tmp_path):
    places = ({"per_size": numpy.int64(192), "fixed": numpy.int32(1), "flops": numpy.float32(2.0)},)
    plan = allocate_by(Method(places=places, most=numpy.int64(4), notch=numpy.int64(1)))
    plan.save(tmp_path)
    assert Plan.load(tmp_path) == plan
    assert plan.parameters == 2 * (4 * 192 + 1)


@settings(max_examples=60)
@given(
    scores=st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1e300)), min_size=1, max_size=5),
    strategy=st.sampled_from(["threshold", "budget", "cost-benefit"]),
    normalizer=st.sampled_from(["share", "max", "zscore", "log"]),
    budget=st.one_of(
        st.integers(1, 10**6).map(lambda n: {"params": n}),
        st.integers(1, 99).map(lambda n: {"memory": f"{n}%"}),
        st.integers(1, 70).map(lambda n: {"params": f"r={n}", "flops": f"{n + 29}%"}),
        st.sampled_from([{}, {"params": 10**30}, {"latency": 0}, {"params": "0.001%"}]),
    ),
    methods=st.sampled_from([None, ("lora",), ("adapter", "prefix"), ("prefix", "adapter", "lora")]),
    given_thresholds=st.sampled_from([None, "0", "1e308", "-1e308", "inf"]),
)
def test_any_plan_that_is_made_can_be_read_again(
    tmp_path_factory, scores, strategy, normalizer, budget, methods, given_thresholds
):
    profile = attrs.evolve(bert_profile(scores), latency=dict.fromkeys(("lora", "adapter", "prefix"), (1e-06, 1e-07)))
    options = {"thresholds": given_thresholds} if strategy == "threshold" and given_thresholds else {}
    try:
        plan = allocate(
            profile, strategy=strategy, normalizer=normalizer, budget=Budget(**budget), methods=methods, options=options
        )
    except LayerLensError:
        return
    run = tmp_path_factory.mktemp("run")
    plan.save(run)
    assert Plan.load(run) == plan
