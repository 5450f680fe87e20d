"""Gain curves from a comparison's arms: known ones come back, and what cannot give any says why."""

import re

import attrs
import numpy as np
import pytest

from bert_profile import bert_profile
from comparison.runs import LABELS, arm, result
from layerlens_core.comparison.judging.verdict import verdict
from layerlens_core.comparison.measured_gains import measured, notches
from layerlens_core.values.comparison import Setting

PROFILE = bert_profile([1.0])
SETTING = Setting(model="m", task="t", data="d", held_out="h", labels=LABELS, precision="float32")
#: Ceiling, half and notch.
TRUTH = {"lora": (1.0, 6.0, 1), "adapter": (0.8, 3.0, 4), "prefix": (0.4, 1.0, 8)}
RANKS = (1, 4, 16)
NONE = 3.0


def an_arm(name, rank, method=None, notch=1):
    sizes = {} if method is None else {method: {"a": notch * rank, "b": notch * rank}}
    return attrs.evolve(arm(name, rank), sizes=sizes, parameters=1000 * rank if sizes else 0)


def trained(methods, *, ranks=RANKS, uniform=True, nothing=NONE):
    """Arms and their verdict, where losses follow the curves of `TRUTH`."""
    found = [an_arm(f"method:{m}", rank, m, TRUTH[m][2]) for m in methods for rank in ranks]
    found += [an_arm("uniform", rank, "lora") for rank in ranks] if uniform else []
    found += [an_arm("none", ranks[0])]
    results = []
    for each in found:
        loss = nothing
        for method, sizes in each.sizes.items():
            top, half, notch = TRUTH[method]
            n = sizes["a"] / notch
            loss = NONE - 1.5 * top * n / (n + half)
        for seed in (0, 1):
            losses = None if loss is None else np.full(len(LABELS), loss) + (-1) ** seed * 1e-3
            results.append(result(each, losses, seed=seed))
    return found, verdict(results, LABELS)


def of(methods, **given):
    """The curves of these methods' arms, and the note."""
    arms, found = trained(methods, **given)
    return measured(arms, found, SETTING, PROFILE)


def test_known_curves_come_back_with_what_they_rest_on():
    gains, note = of(TRUTH)
    assert note is None
    assert gains.setting == SETTING.id
    for method, (top, half, _) in TRUTH.items():
        curve = gains.curves[method]
        assert (curve.ceiling, curve.half) == pytest.approx((top, half), rel=1e-3)
        assert curve.spread < 1e-4
        assert curve.source == f"measured by 9 arms of the comparison {SETTING.id}, means of 2 seeds"


def test_uniform_is_loras_arm_where_there_is_no_other():
    gains, _ = of(["adapter"])
    assert gains.curves.keys() == {"lora", "adapter"}
    assert gains.curves["adapter"].ceiling == pytest.approx(0.8, rel=1e-3)
    assert gains.curves["lora"].half == pytest.approx(6.0, rel=1e-3)


def test_a_method_at_one_size_has_no_curve_and_it_is_said():
    arms, found = trained(["lora", "prefix"])
    fewer = [each for each in arms if each.name != "method:prefix" or each.budget == "r=4"]
    gains, note = measured(fewer, found, SETTING, PROFILE)
    assert gains.curves.keys() == {"lora"}
    assert note.startswith("no gain curve of prefix: a curve takes two sizes or more")


def test_a_method_that_cannot_be_told_from_nothing_has_no_curve_and_the_others_are_fitted_without_it():
    arms, found = trained(["adapter", "prefix"], uniform=False)
    # The adapter is now better than nothing, now worse; without it the prefix is the best there is.
    worse = {"r=1": 5.0, "r=4": 1.0, "r=16": 5.0}
    judged = [
        attrs.evolve(each, loss=worse[each.budget]) if each.arm == "method:adapter" else each for each in found.judged
    ]
    gains, note = measured(arms, attrs.evolve(found, judged=tuple(judged)), SETTING, PROFILE)
    assert gains.curves.keys() == {"prefix"}
    assert gains.curves["prefix"].ceiling == 1.0
    assert gains.curves["prefix"].half == pytest.approx(TRUTH["prefix"][1], rel=1e-2)
    assert "no gain curve of adapter" in note


def test_without_arms_of_methods_nothing_is_asked_for():
    assert of([]) == (None, None)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"nothing": None}, "there is no loss of none, which all methods gain from"),
        ({"nothing": 0.1}, "no arm of .* is better than training nothing"),
        ({"ranks": (4,)}, "no method was trained at two sizes"),
    ],
)
def test_what_gives_none_says_why(given, cause):
    gains, note = of(["lora"], **given)
    assert gains is None
    assert note.startswith("no gain curves: ")
    assert re.search(cause, note)


def test_an_arms_notches_are_the_mean_of_its_sizes():
    one = attrs.evolve(arm(), sizes={"adapter": {"a": 8, "b": 12}})
    assert notches(one, "adapter") == 2.5
