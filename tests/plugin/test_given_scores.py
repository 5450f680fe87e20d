"""Whatever a metric or an aggregator gives is checked where it is given: who gave what for whom."""

import itertools
import math
from fractions import Fraction

import attrs
import numpy as np
import pytest
import torch

from layerlens_core.errors import PluginError
from layerlens_core.plugin import (
    ActiveProfile,
    AggregatorProvider,
    HalvedScores,
    Inventory,
    MetricProvider,
    ModuleStatistics,
)
from layerlens_core.plugin.registry import Registry

STATISTICS = ModuleStatistics(module="L0.q", weights=6, samples=4, groups=2, group_size=2, sum_squared_norm=0.0)
ACTIVE = ActiveProfile(
    model=None, inventory=Inventory(architecture="A", model_type="a", parameters=1, layers=()), scored=("L0", "L1"),
    samples=(), task="causal-lm", micro_batch=1, seed=0, progress=lambda done, total: None,
)  # fmt: skip

#: What is no score -> how it is told.
WRONG = {
    "None": (None, "None"),
    "NaN": (math.nan, "nan"),
    "infinity": (-math.inf, "-inf"),
    "NumPy's NaN": (np.float32("nan"), "nan"),
    "a truth value": (True, "True"),
    "NumPy's truth value": (np.bool_(True), "bool"),
    "a complex number": (1j, "1j"),
    "a text": ("0.5", "'0.5'"),
    "a long text": ("x" * 1000, "'xxxxxxxxxxxxxxxxxxxx…'"),
    "an array": (np.ones(1), "ndarray"),
    "a tensor": (torch.tensor(1.0), "Tensor"),
    "a list": ([1.0], "list"),
    "a huge integer": (10**400, "an integer beyond the range of floats"),
}
RIGHT = [1, -2.5, np.float32(0.5), np.float64(3.0), np.int64(7), np.float16(0.25), Fraction(1, 4), 5e-324, 1.7e308]


def metric(function, **options):
    registry = Registry()
    registry.register(
        MetricProvider(name="mine", summary="", unit="1", load=lambda: function, **{"reduction": "sum", **options})
    )
    return registry.load("metric", "mine")


def aggregator(function):
    registry = Registry()
    registry.register(AggregatorProvider(name="mine", summary="", load=lambda: function))
    return registry.load("aggregator", "mine")


@pytest.mark.parametrize("given", RIGHT, ids=str)
def test_real_numbers_of_all_kinds_become_floats(given):
    for found in (
        metric(lambda statistics: given)(STATISTICS),
        metric(lambda profile: {"L0": given, "L1": 1}, active=True)(ACTIVE)["L0"],
        metric(lambda profile: {"L0": (given, 0), "L1": (1, 1)}, active=True)(ACTIVE)["L0"][0],
    ):
        assert type(found) is float
        assert found == float(given)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_finite_number_is_told_with_metric_and_module(kind):
    given, told = WRONG[kind]
    with pytest.raises(PluginError) as caught:
        metric(lambda statistics: given)(STATISTICS)
    assert str(caught.value).startswith(f"metric 'mine' of plugin mine (in process) gave {told}")
    assert "for L0.q;" in str(caught.value)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("place", ["bare", "value", "error"])
def test_and_with_the_layer_where_layers_are_scored(kind, place):
    given, told = WRONG[kind]
    score = {"bare": given, "value": (given, 1.0), "error": (1.0, given)}[place]
    with pytest.raises(PluginError) as caught:
        metric(lambda profile: {"L0": (1.0, 0.0), "L1": score}, active=True)(ACTIVE)
    assert str(caught.value).startswith(f"metric 'mine' of plugin mine (in process) gave {told}")
    assert f"{'as the standard error of' if place == 'error' else 'for'} L1;" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "must give a number by name of layer, but gave None"),
        ([1.0, 2.0], "must give a number by name of layer, but gave list"),
        ({"L0": 1.0}, "gave no score for L1"),
        ({}, "gave no score for L0, L1"),
        ({"L0": 1.0, "L1": 1.0, "L2": 1.0}, "gave a score for 'L2', which is none of the layers"),
        ({"L0": 1.0, "L1": 1.0, 3: 1.0}, "gave a score for 3, which is none of the layers"),
        ({"L0": (1.0, -0.1), "L1": (1.0, 0.1)}, "gave -0.1 as the standard error of L0"),
        ({"L0": (1.0,), "L1": (1.0, 0.1)}, "gave a tuple of 1 for L0"),
        ({"L0": (1.0, 0.1), "L1": 1.0}, "gave no standard error for L1, but for others"),
    ],
)
def test_every_layer_is_scored_once_and_alike(given, told):
    with pytest.raises(PluginError) as caught:
        metric(lambda profile: given, active=True)(ACTIVE)
    assert told in str(caught.value)
    assert str(caught.value).startswith("metric 'mine' of plugin mine (in process)")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1.0], "must give a number by name of module, but gave list"),
        ([], "must give a number by name of module, but gave list"),
        (
            {"L0": 1.0, "L1": 1.0},
            "gave a score for 'L0', which is none of the modules that it was to score (modules of",
        ),
        ({"L0.q": 1.0}, "gave no score for L1.q; it must score every module in modules"),
        ([{"L0.q": 1.0, "L1.q": 1.0}, {"L0.q": 1.0}], "gave no score for L1.q"),
        ([{"L0.q": 1.0, "L1.q": 1.0}, {"L0.q": 1.0, "L1.q": math.nan}], "gave nan for L1.q"),
        ([{"L0.q": (1.0, 0.1), "L1.q": (1.0, 0.1)}] * 2, "gave a standard error for L0.q in one of several repeats"),
        ([{"L0.q": 1.0, "L1.q": 1.0}, 1.0], "must give a number by name of module, but gave list"),
    ],
)
def test_where_modules_are_scored_each_is_in_every_repeat(given, told):
    profile = attrs.evolve(ACTIVE, modules=("L0.q", "L1.q"), granularity="module")
    with pytest.raises(PluginError) as caught:
        metric(lambda profile: given, active=True)(profile)
    assert told in str(caught.value)


def test_repeats_are_taken_as_plain_floats():
    profile = attrs.evolve(ACTIVE, modules=("L0.q", "L1.q"), granularity="module")
    repeats = [{"L0.q": np.float32(1.0), "L1.q": 2}, {"L1.q": 0.5, "L0.q": 1}]
    found = metric(lambda profile: repeats, active=True)(profile)
    assert found == ({"L0.q": 1.0, "L1.q": 2.0}, {"L0.q": 1.0, "L1.q": 0.5})
    assert {type(value) for scores in found for value in scores.values()} == {float}


WHOLE = {"L0.q": 1.0, "L1.q": 2.0}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"scores": 1.0}, "must give a number by name of module, but gave 1.0"),
        ({"halves": (WHOLE, 1.0)}, "must give a number by name of module, but gave 1.0"),
        ({"halves": (WHOLE,)}, "must give the scores of two halves of the samples, but gave tuple"),
        ({"halves": None}, "must give the scores of two halves of the samples, but gave None"),
        ({"halves": (WHOLE, {"L0.q": 1.0})}, "gave no score for L1.q"),
        ({"scores": WHOLE | {"L2.q": 1.0}}, "gave a score for 'L2.q', which is none of the modules"),
        ({"halves": (WHOLE | {"L0.q": math.nan}, WHOLE)}, "gave nan for L0.q"),
        ({"scores": dict.fromkeys(WHOLE, (1.0, 0.1))}, "gave a standard error for L0.q beside halves of the samples"),
    ],
)
def test_halves_are_scored_as_the_whole_is(given, told):
    profile = attrs.evolve(ACTIVE, modules=("L0.q", "L1.q"), granularity="module")
    with pytest.raises(PluginError) as caught:
        metric(lambda profile: HalvedScores(**{"scores": WHOLE, "halves": (WHOLE, WHOLE)} | given), active=True)(
            profile
        )
    assert told in str(caught.value)
    assert str(caught.value).startswith("metric 'mine' of plugin mine (in process)")


def test_halves_are_taken_as_plain_floats_in_the_order_of_the_units():
    profile = attrs.evolve(ACTIVE, modules=("L0.q", "L1.q"), granularity="module")
    halves = ({"L1.q": np.float32(2.0), "L0.q": 1}, {"L0.q": Fraction(1, 2), "L1.q": 3})
    found = metric(lambda profile: HalvedScores(scores=WHOLE, halves=halves), active=True)(profile)
    assert found == HalvedScores(scores=WHOLE, halves=({"L0.q": 1.0, "L1.q": 2.0}, {"L0.q": 0.5, "L1.q": 3.0}))
    assert [list(half) for half in found.halves] == [["L0.q", "L1.q"]] * 2
    assert {type(value) for half in found.halves for value in half.values()} == {float}


def test_an_error_while_a_layer_is_scored_is_told_with_the_layer():
    def score(profile):
        for layer in profile.scored:
            with profile.scoring(layer):
                _ = 1 / (layer == "L0")
        return {}

    with pytest.raises(PluginError, match=r"metric 'mine' .* failed on L1: ZeroDivisionError: division by zero"):
        metric(score, active=True)(ACTIVE)


@pytest.mark.parametrize(
    ("given", "told"), [(None, "None"), (1.0, "1.0"), ("ab", "'ab'"), ({"L0": 1.0}, "dict"), (b"ab", "bytes")]
)
def test_an_aggregator_gives_a_row_of_utilities(given, told):
    with pytest.raises(
        PluginError, match=r"aggregator 'mine' of plugin mine .* must give one utility for each unit"
    ) as e:
        aggregator(lambda columns, weights: given)({"m": [1.0, 2.0]}, {"m": 1.0})
    assert str(e.value).endswith(f"but gave {told}")


def test_an_aggregator_that_never_ends_is_not_waited_for():
    assert aggregator(lambda columns, weights: itertools.repeat(1.0))({"m": [1.0, 2.0]}, {"m": 1.0}) == [1.0] * 3


def test_a_metric_that_does_not_say_how_modules_make_a_layer_is_refused_by_name():
    registry = Registry()
    registry.register(MetricProvider(name="ratio", summary="", unit="1", load=lambda: lambda statistics: 0.5))
    assert registry.names("metric") == ["ratio"]
    for look_up in (registry.get, registry.load):
        with pytest.raises(PluginError, match=r"metric 'ratio' of plugin ratio .* has no reduction") as caught:
            look_up("metric", "ratio")
        assert all(f"'{reduction}'" in str(caught.value) for reduction in ("sum", "mean", "weighted_mean"))
    with pytest.raises(ValueError, match="reduction"):
        MetricProvider(name="ratio", summary="", unit="1", reduction="median", load=lambda: lambda statistics: 0.5)
