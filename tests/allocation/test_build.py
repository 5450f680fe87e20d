"""Candidates of a layer: every size, its exact cost, and a gain that grows with the share that the size reaches."""

from itertools import pairwise

import pytest

from layerlens_builtin.methods.adapter import METHOD as ADAPTER
from layerlens_builtin.methods.lora import METHOD as LORA
from layerlens_builtin.methods.none import METHOD as NONE
from layerlens_core.allocation.build import Findings, Terms, build_unit, coverage
from layerlens_core.demo.scenarios import bert_layer
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.gains import GainCurve

LAYER = bert_layer(0, width=24)
METHODS = {"none": NONE, "adapter": ADAPTER, "lora": LORA}


def test_a_candidate_for_every_size_with_the_cost_of_its_targets():
    terms = Terms(training=Training(batch=1, length=3), latency={"adapter": (0.5, 0.25), "lora": (1.0, 1.0)})
    unit = build_unit(LAYER, 0.5, METHODS, terms, Findings(depth=2, kept_inputs=60.0))
    assert (unit.depth, unit.notches) == (2, {"none": 1, "adapter": 4, "lora": 1})
    assert unit.sizes("lora") == list(range(1, 25))
    assert unit.sizes("adapter") == [4, 8, 12, 16, 20, 24]
    for candidate in unit.candidates:
        costs = (target.cost(candidate.size, terms.training) for target in unit.targets[candidate.method])
        expected = sum(costs, Cost())
        for name in ("params", "flops", "memory", "latency"):
            assert getattr(candidate.cost, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    assert sum(target.kept_bytes for target in unit.targets["lora"]) == pytest.approx(60.0)
    assert {target.seconds for target in unit.targets["lora"]} == {0.0}  # it is merged
    assert {(target.seconds_fixed, target.seconds) for target in unit.targets["adapter"]} == {(0.5, 0.25)}


def test_a_gain_is_the_utility_times_the_coverage_over_the_penalty():
    unit = build_unit(LAYER, 0.5, METHODS, Terms(penalties={"adapter": 2.0}))
    for candidate in unit.candidates_of("adapter"):
        assert candidate.gain == pytest.approx(0.5 * coverage(ADAPTER, candidate.size) / 2.0)
    for candidate in unit.candidates_of("lora"):
        assert candidate.gain == pytest.approx(0.5 * coverage(LORA, candidate.size) / LORA.penalty)
    assert [candidate.gain for candidate in unit.candidates_of("none")] == [0.0]


def test_coverage_is_concave_and_below_its_ceiling():
    curve = GainCurve(ceiling=0.9, half=8.0, spread=None, source="")
    shares = [coverage(LORA, rank, curve) for rank in range(65)]
    steps = [high - low for low, high in pairwise(shares)]
    assert shares[0] == 0
    assert steps == sorted(steps, reverse=True)
    assert shares[-1] < curve.ceiling
    assert coverage(LORA, 8, curve) == curve.ceiling / 2
    assert coverage(LORA, 1) == LORA.ceiling / (1 + LORA.half)


def test_a_spectrum_that_was_profiled_takes_the_place_of_the_curve_where_lora_is_alone():
    spectrum = Findings(spectrum=(0.5, 0.75))
    unit = build_unit(LAYER, 0.5, {"none": NONE, "lora": LORA}, findings=spectrum)
    gains = [candidate.gain for candidate in unit.candidates_of("lora")]
    assert gains[:2] == [0.25, 0.375]
    assert gains[2] == pytest.approx(0.5 * coverage(LORA, 3))
    # Beside other methods' shares of a loss a share of the gradient says nothing.
    beside = build_unit(LAYER, 0.5, METHODS, findings=spectrum)
    assert beside.candidates_of("lora")[0].gain == pytest.approx(0.5 * coverage(LORA, 1))
    assert beside.candidates_of("adapter")[0].gain == pytest.approx(0.5 * coverage(ADAPTER, 4) / ADAPTER.penalty)


def test_modules_that_were_not_scored_are_no_targets():
    names = [module.name for module in LAYER.modules]
    unit = build_unit(LAYER, 0.5, METHODS, findings=Findings(excluded=frozenset(names[:-1])))
    assert [target.name for target in unit.targets["lora"]] == names[-1:]
    nothing = build_unit(LAYER, 0.5, METHODS, findings=Findings(excluded=frozenset(names)))
    assert not nothing.offers("lora")
    assert nothing.offers("none")
