"""Gain curves: known ones are recovered, and no other is nearer than the one that is found."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.gains import Measured, fit
from layerlens_core.errors import PlanError
from layerlens_core.values.gains import GainCurve, Gains
from layerlens_core.values.plan import Plan

SIZES = (1, 2, 4, 8, 16)


def arms(truth, *, scale=1.0, none=3.0, setting="", noise=0.0, draw=None, sizes=SIZES):
    return [
        Measured(
            method=method,
            notches=n,
            loss=none - scale * top * n / (n + half) + (draw.gauss(0, noise) if draw else 0.0),
            none=none,
            setting=setting,
        )
        for method, (top, half) in truth.items()
        for n in sizes
    ]


CURVES = st.dictionaries(
    st.sampled_from(["lora", "adapter", "prefix"]),
    st.tuples(st.floats(0.2, 1.0), st.floats(0.5, 20.0)),
    min_size=1,
)


@given(CURVES, st.floats(0.1, 5), st.floats(0.1, 5))
def test_known_curves_are_recovered_over_settings_of_any_scale(truth, first, second):
    found = fit(arms(truth, scale=first, setting="a") + arms(truth, scale=second, none=9.0, setting="b"), "two")
    top = max(top for top, _ in truth.values())
    for method, (ceiling, half) in truth.items():
        assert found[method].ceiling == pytest.approx(ceiling / top, rel=1e-3)
        assert found[method].half == pytest.approx(half, rel=1e-2)
        assert found[method].spread < 1e-4
        assert found[method].source == "two"


def misses(given_arms, scale, curves):
    best = max(arm.none - arm.loss for arm in given_arms)
    return sum(
        (
            (arm.none - arm.loss) / best
            - scale * curves[arm.method][0] * arm.notches / (arm.notches + curves[arm.method][1])
        )
        ** 2
        for arm in given_arms
    )


def by_a_grid(given_arms):
    """Slow and obvious: of every half on a grid, the best height in closed form. One method, one setting."""
    best = max(arm.none - arm.loss for arm in given_arms)
    found = []
    for step in range(600):
        half = 0.1 * 1.012**step
        x = [arm.notches / (arm.notches + half) for arm in given_arms]
        y = [(arm.none - arm.loss) / best for arm in given_arms]
        top = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
        found.append((misses(given_arms, 1.0, {"lora": (top, half)}), half))
    return min(found)


@pytest.mark.parametrize("seed", range(8))
def test_noisy_arms_get_the_curve_of_the_grid(seed):
    draw = random.Random(seed)
    noisy = arms({"lora": (0.8, draw.uniform(1, 8))}, noise=0.01, draw=draw)
    least, half = by_a_grid(noisy)
    curve = fit(noisy, "noisy")["lora"]
    assert curve.half == pytest.approx(half, rel=0.02)
    assert curve.spread**2 * len(noisy) <= least * (1 + 1e-3) + 1e-9
    assert curve.spread > 0


def test_a_method_of_one_size_has_no_curve():
    one = Measured(method="prefix", notches=1, loss=2.0, none=3.0)
    assert set(fit([*arms({"lora": (1.0, 8.0)}), one], "")) == {"lora"}


def test_ones_own_curves_replace_those_of_the_methods_and_are_kept_in_the_plan(tmp_path):
    profile = bert_profile([1.0] * 3)
    asked = {"strategy": "budget", "budget": "params=r=8", "methods": "lora,prefix", "margins": False}
    assert {d.method for d in allocate(profile, **asked).decisions} == {"lora"}
    curves = {"prefix": GainCurve(ceiling=1.0, half=0.5, spread=0.0, source="")}
    planned = allocate(
        profile, **asked, gains=curves | {"lora": GainCurve(ceiling=0.1, half=9.0, spread=0.0, source="")}
    )
    assert {d.method for d in planned.decisions} == {"prefix"}
    assert planned.request.gains["prefix"] == curves["prefix"]
    planned.save(tmp_path)
    assert Plan.load(tmp_path) == planned


MEASURED = Gains(
    curves={
        "prefix": GainCurve(ceiling=1.0, half=0.5, spread=0.013, source="measured by 6 arms"),
        "lora": GainCurve(ceiling=0.1, half=9.0, spread=0.02, source="measured by 6 arms"),
    },
    setting="0",
    profile="0" * 64,
)


def test_a_runs_measured_curves_are_taken_and_told(tmp_path):
    MEASURED.save(tmp_path)
    asked = {"strategy": "budget", "budget": "params=r=8", "margins": False, "gains": tmp_path}
    planned = allocate(bert_profile([1.0] * 3), methods="lora,prefix", **asked)
    assert planned.request.gains == MEASURED.curves
    assert {decision.method for decision in planned.decisions} == {"prefix"}
    told = "gain curves of prefix 1·n/(n + 0.5) ± 0.013, lora 0.1·n/(n + 9) ± 0.02: measured by 6 arms"
    assert told in planned.notes
    # One method alone takes its own.
    alone = allocate(bert_profile([1.0] * 3), methods="lora", **asked)
    assert alone.request.gains.keys() == {"lora"}
    assert any(note.startswith("gain curves of lora 0.1") for note in alone.notes)


def test_beside_a_method_that_was_not_measured_the_others_are_refused(tmp_path):
    MEASURED.save(tmp_path)
    with pytest.raises(PlanError, match=r"no gain curve of adapter.*--arms method:adapter,method:lora and two budgets"):
        allocate(bert_profile([1.0] * 3), methods="lora,adapter", gains=tmp_path)


def test_what_curves_rest_on_is_said_where_methods_are_chosen_between():
    profile = bert_profile([1.0] * 3)
    several = allocate(profile, methods="lora,adapter", strategy="budget", margins=False)
    assert "gain curves of adapter, lora: fitted to" in " ".join(several.notes)
    assert not any("gain curve" in note for note in allocate(profile).notes)


@pytest.mark.parametrize(
    ("given_arms", "message"),
    [
        ([], "no method was trained at two sizes"),
        (
            [Measured(method="lora", notches=1, loss=math.inf, none=1.0)],
            "an arm of lora at 1 notches has a loss of inf",
        ),
        ([Measured(method="lora", notches=-1, loss=1.0, none=1.0)], "at -1 notches"),
        (arms({"lora": (-1.0, 8.0)}, setting="gsm8k"), "no arm of gsm8k is better than training nothing"),
    ],
)
def test_what_says_nothing_is_refused(given_arms, message):
    with pytest.raises(PlanError, match=message):
        fit(given_arms, "")
