"""Differences over seeds and examples, against slow sums and against simulated truth."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from comparison.runs import crossed
from layerlens_core.comparison.judging.statistics import LEAST, Pair, holm, mean_loss, paired, permutation, pooled
from layerlens_core.errors import ComparisonError

PROPERTY = settings(deadline=None, max_examples=40)


@st.composite
def arms(draw):
    """Two arms and weights, some of which are zero."""
    seeds, examples = draw(st.integers(2, 5)), draw(st.integers(3, 9))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    weights = random.integers(0, 5, examples)
    weights[:2] += 1
    base = random.uniform(0.5, 3, (seeds, examples))
    return base + random.normal(0.05, 0.2, base.shape), base, weights


def slowly(arm, base, weights, relative):
    """Estimate, variance of seeds and cells, and variance of examples, as the top of statistics.py writes them."""
    kept = [index for index, weight in enumerate(weights) if weight > 0]
    seeds, total = range(len(arm)), sum(weights)
    means = [
        sum(weights[e] * sum(matrix[s][e] for s in seeds) / len(arm) for e in kept) / total for matrix in (arm, base)
    ]
    estimate = math.log(means[0] / means[1]) if relative else means[0] - means[1]
    z = {}
    for s, e in itertools.product(seeds, kept):
        share = weights[e] / (total / len(kept))
        if relative:
            z[s, e] = share * (arm[s][e] / means[0] - base[s][e] / means[1]) + estimate
        else:
            z[s, e] = share * (arm[s][e] - base[s][e] - estimate) + estimate
    rows = [sum(z[s, e] for e in kept) / len(kept) for s in seeds]
    columns = {e: sum(z[s, e] for s in seeds) / len(arm) for e in kept}
    of_seeds = sum((row - estimate) ** 2 for row in rows) / (len(arm) - 1) / len(arm)
    of_examples = sum((column - estimate) ** 2 for column in columns.values()) / (len(kept) - 1) / len(kept)
    rest = sum((z[s, e] - rows[s] - columns[e] + estimate) ** 2 for s, e in z)
    cells = rest / ((len(arm) - 1) * (len(kept) - 1)) / len(z)
    return estimate, of_seeds, max(of_examples - cells, 0.0), len(kept)


@PROPERTY
@given(arms(), st.booleans(), st.sampled_from((0.8, 0.95, 0.99)))
def test_an_interval_is_what_slow_sums_give(found, relative, confidence):
    arm, base, weights = found
    difference = paired(arm, base, weights, confidence=confidence, relative=relative)
    estimate, of_seeds, of_examples, examples = slowly(arm, base, weights, relative)
    quantile = [stats.t.ppf((1 + confidence) / 2, count - 1) for count in (len(arm), examples)]
    half = math.sqrt(quantile[0] ** 2 * of_seeds + quantile[1] ** 2 * of_examples)
    assert difference.estimate == pytest.approx(estimate, abs=1e-12)
    assert (difference.low, difference.high) == pytest.approx((estimate - half, estimate + half), abs=1e-12)
    assert (difference.seeds, difference.examples) == (len(arm), examples)


@PROPERTY
@given(arms(), st.booleans())
def test_at_the_level_p_the_interval_touches_zero(found, relative):
    arm, base, weights = found
    difference = paired(arm, base, weights, relative=relative)
    again = paired(arm, base, weights, confidence=1 - difference.p, relative=relative)
    assert min(abs(again.low), abs(again.high)) == pytest.approx(0, abs=1e-6)
    assert difference.holds_zero == (difference.p >= 0.05)


@PROPERTY
@given(arms(), st.booleans())
def test_the_other_way_round_it_is_the_negative(found, relative):
    arm, base, weights = found
    one, other = (paired(*pair, weights, relative=relative) for pair in ((arm, base), (base, arm)))
    assert (one.estimate, one.low) == pytest.approx((-other.estimate, -other.high))
    assert (one.p, one.flips) == pytest.approx((other.p, other.flips))


def test_an_arm_against_itself_shows_nothing():
    arm = crossed(3, 60, mean=2, of_seeds=0.1, of_examples=0.5, of_cells=0.1)
    difference = paired(arm, arm, np.ones(60))
    assert (difference.estimate, difference.low, difference.high, difference.p, difference.flips) == (0, 0, 0, 1, 1)


def test_examples_without_labels_count_for_nothing_whatever_their_loss():
    arm, base = crossed(3, 10, mean=2, of_cells=0.1), crossed(3, 10, mean=2, of_examples=0.1)
    weights = np.array([3, 0, 1, 2, 0, 1, 1, 5, 2, 2])
    spoiled = arm.copy()
    spoiled[:, weights == 0] = np.nan
    assert paired(spoiled, base, weights) == paired(arm[:, weights > 0], base[:, weights > 0], weights[weights > 0])
    assert mean_loss(spoiled, weights) == mean_loss(arm[:, weights > 0], weights[weights > 0])


def test_one_seed_has_an_interval_over_examples_and_no_p():
    arm = crossed(1, 40, mean=-0.1, of_cells=0.1)
    difference = paired(arm, np.zeros((1, 40)), np.ones(40))
    low, high = stats.t.interval(0.95, 39, arm.mean(), arm.std(ddof=1) / math.sqrt(40))
    assert (difference.low, difference.high) == pytest.approx((low, high))
    assert difference.p is None
    assert difference.floor == 1


def test_quantiles_are_numbers_down_to_the_least_p():
    freedom = np.concatenate([np.linspace(1, 3, 20_000), np.geomspace(3, 1e6, 20_000)])
    assert np.isfinite(stats.t.isf(math.exp(LEAST) / 2, freedom)).all()
    sure = paired(np.full((3, 9), -1.0) + 1e-13 * crossed(3, 9, of_cells=1), np.zeros((3, 9)), np.ones(9))
    assert math.exp(LEAST) <= sure.p < 1e-12
    exact = paired(np.full((3, 9), -1.0), np.zeros((3, 9)), np.ones(9))
    assert (exact.p, exact.low, exact.high) == (math.exp(LEAST), -1, -1)


SHARES = {
    "seeds": {"of_seeds": 1, "of_cells": 0.1},
    "examples": {"of_examples": 8, "of_cells": 1},
    "cells": {"of_cells": 1},
    "seeds and some examples": {"of_seeds": 1, "of_examples": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_with_three_seeds_a_true_zero_is_refused_no_more_often_than_promised(share):
    random = np.random.default_rng(4)
    zero, ones, tries = np.zeros((3, 60)), np.ones(60), 400
    found = [paired(crossed(3, 60, random=random, **SHARES[share]), zero, ones) for _ in range(tries)]
    refused = sum(not each.holds_zero for each in found)
    assert refused <= stats.binom.ppf(0.999, tries, 0.05)
    assert sum(each.p < 0.005 for each in found) <= stats.binom.ppf(0.999, tries, 0.005)


def test_what_is_there_is_found():
    arm = crossed(3, 100, mean=-0.1, of_seeds=0.005, of_examples=0.05, of_cells=0.05)
    difference = paired(arm, np.zeros((3, 100)), np.ones(100))
    assert difference.high < 0
    assert difference.p < 0.01
    assert difference.flips == difference.floor == 0.25


@PROPERTY
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8))
def test_flips_without_noise_are_all_patterns_of_signs(blocks):
    reached = [
        abs(sum(sign * block for sign, block in zip(signs, blocks, strict=True))) >= abs(sum(blocks))
        for signs in itertools.product((1, -1), repeat=len(blocks))
    ]
    assert permutation(np.array(blocks, float), 0.0) == sum(reached) / len(reached)


@PROPERTY
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_no_p_is_below_its_floor(blocks, noise):
    assert 2.0 ** (1 - len(blocks)) <= permutation(np.array(blocks), noise) <= 1


def test_noise_of_examples_is_as_drawn():
    blocks, noise = np.array([0.3, 0.5, 0.4, 0.2, -0.1, 0.3]), 0.2
    random = np.random.default_rng(0)
    signs = random.choice((1, -1), (200_000, len(blocks)))
    sums = np.abs(signs @ blocks) + noise * np.abs(random.standard_normal(len(signs)))
    assert permutation(blocks, noise) == pytest.approx((sums >= blocks.sum() - 1e-12).mean(), abs=0.005)
    assert permutation(blocks, noise) > permutation(blocks, 0.0)


def test_of_many_blocks_patterns_are_drawn_and_what_was_seen_is_one():
    assert permutation(np.ones(40), 0.0) == 1 / 8192
    even = permutation(np.tile([1.0, -1.0], 20) + 1e-3, 0.0)
    assert even > 0.8


def test_pooled_tasks_add_up_and_share_nothing():
    tasks = [crossed(3, 40 + 10 * n, mean=-0.05, of_seeds=0.02, of_examples=0.1, of_cells=0.1) for n in range(3)]
    pairs = [[Pair(arm=task, base=np.zeros_like(task), weights=np.ones(task.shape[1]))] for task in tasks]
    found = pooled(pairs)
    parts = [slowly(task, np.zeros_like(task), [1] * task.shape[1], False) for task in tasks]
    of_seeds = [part[1] for part in parts]
    of_examples = [part[2] for part in parts]
    free = sum(of_seeds) ** 2 / sum(each**2 / 2 for each in of_seeds)
    wide = sum(of_examples) ** 2 / sum(each**2 / (part[3] - 1) for each, part in zip(of_examples, parts, strict=True))
    half = math.sqrt(stats.t.ppf(0.975, free) ** 2 * sum(of_seeds) + stats.t.ppf(0.975, wide) ** 2 * sum(of_examples))
    assert found.estimate == pytest.approx(np.mean([part[0] for part in parts]))
    assert found.high - found.estimate == pytest.approx(half / 3)
    assert found.floor == 2.0**-8
    assert found.examples == 150


def test_budgets_of_one_task_are_no_independent_evidence():
    task = crossed(3, 50, mean=-0.05, of_seeds=0.02, of_examples=0.1)
    pair = Pair(arm=task, base=np.zeros_like(task), weights=np.ones(50))
    once, thrice = pooled([[pair]]), pooled([[pair, pair, pair]])
    assert (thrice.low, thrice.high, thrice.p) == pytest.approx((once.low, once.high, once.p))


@PROPERTY
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_refuses_step_by_step(values):
    for level in (0.01, 0.05, 0.2):
        refused = set()
        for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
            if (len(values) - rank) * values[index] > level:
                break
            refused.add(index)
        assert {index for index, p in enumerate(holm(values)) if p <= level} == refused


@pytest.mark.parametrize(
    ("arm", "base", "weights", "words"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), np.ones(4), r"\[3, 4\] against \[2, 4\]"),
        (np.ones((3, 4)), np.ones((3, 4)), np.ones(5), r"weights \[5\]"),
        (np.ones((3, 4)), np.ones((3, 4)), np.array([1, 0, 0, 0]), "two labelled examples"),
        (np.full((3, 4), np.inf), np.ones((3, 4)), np.ones(4), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(arm, base, weights, words):
    with pytest.raises(ComparisonError, match=words):
        paired(arm, base, weights)


def test_nothing_to_pool_and_a_ratio_of_nothing_are_refused():
    with pytest.raises(ComparisonError, match="nothing to pool"):
        pooled([])
    with pytest.raises(ComparisonError, match="above zero"):
        paired(np.zeros((3, 4)), np.ones((3, 4)), np.ones(4), relative=True)
    one, other = (Pair(arm=np.ones((s, 4)), base=np.ones((s, 4)), weights=np.ones(4)) for s in (2, 3))
    with pytest.raises(ComparisonError, match="same seeds"):
        pooled([[one, other]])
