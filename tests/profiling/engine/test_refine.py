"""Sketched scores that leave a ranking open are made exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from layerlens_core.errors import DataError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.refine import _overlapping, measure_refined, open_modules
from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.profile import profile
from layerlens_core.values.profile import Profile
from zoo.profiled import build, samples


def brute(intervals):
    """Every pair looked at."""
    return {
        a
        for a, (low, high) in intervals.items()
        for b, (other_low, other_high) in intervals.items()
        if a != b and low <= other_high and other_low <= high
    }


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=12))
def test_overlaps_are_those_that_every_pair_shows(drawn_intervals):
    intervals = {name: (float(low), float(low + wide)) for name, (low, wide) in drawn_intervals.items()}
    assert _overlapping(intervals) == brute(intervals)


def test_auto_ranks_as_exact_scores_do():
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=8)
    targets = inspect(model).modules
    needs = ("gradient_norms",)
    truth = {s.module: s for s in measure(model, targets, data, family.task, Settings(needs=needs)).statistics}
    first = measure(model, targets, data, family.task, Settings(needs=needs, sketch_columns=1024)).statistics
    found = measure_refined(model, targets, data, family.task, Settings(needs=needs, sketch_columns=1024)).statistics
    undecided = open_modules(first, needs)
    assert undecided
    assert undecided != {s.module for s in first}
    for statistics in found:
        exact = truth[statistics.module]
        if statistics.module in undecided:
            assert statistics.fisher == pytest.approx(exact.fisher, rel=1e-10)
            assert statistics.fisher_interval == (statistics.fisher, statistics.fisher)
        else:
            assert statistics.fisher == pytest.approx(exact.fisher, rel=0.2)
    assert not open_modules(found, needs)
    for score in (lambda s: s.fisher, lambda s: s.gradient_energy):
        by_exact = sorted(truth.values(), key=score)
        assert [s.module for s in sorted(found, key=score)] == [s.module for s in by_exact]


def test_a_profile_tells_its_sketches_errors(tmp_path):
    family = zoo.find("llama")
    model, data = build(family), samples(family, count=6)
    for scores in ("sketch", "auto"):
        found = profile(model, data, metrics=["fisher", "gradient_energy"], scores=scores)
        assert dict(found.settings)["scores"] == scores
        found.save(tmp_path)
        assert Profile.load(tmp_path) == found
        if scores == "sketch":
            assert all(s.fisher_interval[0] < s.fisher < s.fisher_interval[1] for s in found.statistics)
    with pytest.raises(DataError, match="--scores exact"):
        profile(model, data, metrics=["weight_gradient"], scores="auto")
