"""The proxy fine-tune: scores with errors, whatever the micro-batch, and errors that hold what they say."""

import math

import attrs
import numpy as np
import pytest
import torch

import zoo
from layerlens_builtin.metrics.proxy_eval import FOLDS, _mean_with_error, score
from layerlens_core.errors import DataError, NonFiniteError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin import ActiveProfile
from zoo.profiled import build, samples


def context(count=12, *, dtype=torch.float64, **changes):
    family = zoo.find("llama")
    model = build(family, dtype)
    inventory = inspect(model)
    given = ActiveProfile(
        model=model, inventory=inventory, scored=tuple(layer.name for layer in inventory.layers),
        samples=tuple(samples(family, count=count)), task="causal-lm", micro_batch=3, seed=0,
        progress=lambda done, total: None,
    )  # fmt: skip
    return attrs.evolve(given, **changes)


def test_every_layer_has_a_score_and_an_error_and_memory_does_not_show():
    reports = []
    one = score(context(progress=lambda done, total: reports.append((done, total))))
    other = score(context(micro_batch=12))
    assert list(one) == list(context().scored)
    for layer, (value, error) in one.items():
        assert error > 0
        assert other[layer] == pytest.approx((value, error), rel=1e-6)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert reports[-1][0] == reports[-1][1]


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="at least 8 samples with labels, but there are 7"):
        score(context(count=7))


def test_a_loss_that_is_no_number_is_told_with_what_was_done():
    given = context()
    with torch.no_grad():
        given.model.lm_head.weight[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match="proxy_eval's fine-tune is nan"):
        score(given)


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_the_error_covers_the_spread_of_samples_and_of_fine_tunes(between):
    draw = np.random.default_rng(0)
    misses = 0
    for _ in range(1_000):
        parts = [(draw.normal() * between + draw.normal(size=8)).tolist() for _ in range(FOLDS)]
        mean, error = _mean_with_error(parts)
        misses += abs(mean) > 1.96 * error
    assert misses / 1_000 < (0.05 if between == 0 else 0.2)  # two degrees of freedom tell little of fine-tunes


def test_few_samples_widen_the_error():
    parts = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    mean, error = _mean_with_error(parts)
    assert mean == 0.5
    plain = math.sqrt(6 * 0.25 / 3 / 6)
    assert error > 1.5 * plain
