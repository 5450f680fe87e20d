"""Every lowest trained layer, tried or proven to be worse: the same choice as where all are tried."""

import json
import math
import random
import subprocess
import sys

import numpy
import pytest

from layerlens_builtin.strategies import choosing
from layerlens_core.values.candidates import Candidate, CandidateSet, Unit
from layerlens_core.values.costs import Cost, Limits


def instance(draw: random.Random) -> CandidateSet:
    units = []
    for index in range(draw.randrange(1, 7)):
        utility = draw.choice([draw.random(), 0.25, 0.0])
        step = draw.randrange(1, 20)
        candidates = [Candidate(method="none", size=0, cost=Cost(), gain=0.0)]
        for size in range(1, draw.randrange(2, 6)):
            cost = Cost(params=step * size, flops=draw.uniform(1, 9) * size, memory=float(8 * step * size))
            candidates.append(Candidate(method="lora", size=size, cost=cost, gain=utility * size / (size + 2)))
        units.append(
            Unit(name=f"L{index}", utility=utility, candidates=candidates, targets={}, notches={}, depth=index)
        )
    depths = [Cost(flops=10.0, memory=20.0)]
    for _ in units:
        depths.append(depths[-1] + Cost(flops=draw.uniform(0, 9), memory=draw.uniform(0, 99)))
    return CandidateSet(units=tuple(units), methods=("none", "lora"), depths=tuple(depths[::-1]))


def all_tried(candidates: CandidateSet, limits: Limits, exact: bool):
    """The best of all lowest layers, the lowest of several alike, and the largest bound."""
    table, best, bound = candidates.table, None, -math.inf
    depths = numpy.array([unit.depth for unit in candidates.units])
    for depth in depths.tolist():
        left = {name: most - getattr(candidates.base(depth), name) for name, most in limits.bounds.items()}
        if min(left.values()) < 0:
            continue
        rows = (depths[table.unit] >= depth) | table.are("none")
        found = choosing._solve(table, rows, Limits(**left), exact)
        if found is not None:
            bound = max(bound, found.bound)
            if best is None or found.value > best.value:
                best = found
    return best, bound


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_not_tried_could_not_have_been_better(exact):
    draw = random.Random(3)
    seen = 0
    for _ in range(150):
        candidates = instance(draw)
        memory = draw.uniform(20, 500)
        limits = draw.choice(
            [
                Limits(memory=memory),
                Limits(flops=draw.uniform(10, 90)),
                Limits(params=draw.randrange(200), memory=memory),
            ]
        )
        best, bound = all_tried(candidates, limits, exact)
        found = choosing.choose(candidates, limits, exact=exact)
        if best is None:
            continue
        seen += 1
        assert found.value == best.value
        if len(limits.bounds) == 1:
            assert found.rows.tolist() == best.rows.tolist()
            assert (found.bound, found.prices) == (bound, best.prices)
    assert seen > 50


def test_a_certificate_holds_where_not_all_lowest_layers_are_tried(monkeypatch):
    draw = random.Random(4)
    for _ in range(40):
        candidates, limits = instance(draw), Limits(memory=draw.uniform(20, 500))
        best, _ = all_tried(candidates, limits, exact=True)
        monkeypatch.setattr(choosing, "MOST_WORK", 0)
        found = choosing.choose(candidates, limits, exact=False)
        if best is not None:
            assert found.value <= best.value + 1e-12
            assert found.bound >= best.value - 1e-12


def test_what_highs_prints_does_not_reach_standard_output():
    code = """
import ctypes, json, os
from layerlens_builtin.strategies.several_bounds import silent
print("{", end="")
with silent():
    ctypes.CDLL(None).puts(b"WARNING: of C")
    os.write(1, b"and past it")
print('"a": 1}')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"a": 1}
