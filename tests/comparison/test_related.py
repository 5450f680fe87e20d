"""Labels that have to do with inputs are told from others by forward passes alone."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from comparison.labelled import answered, classified, context
from layerlens_core.allocation.abstention import LEAST_SAMPLES, LEVEL
from layerlens_core.comparison.related import independence, related
from zoo.probing import snapshot
from zoo.profiled import build

CLASSES = "sequence-classification"


@pytest.mark.parametrize("family", ["bert-classifier", "llama-classifier"])
def test_samples_of_like_labels_are_more_alike_where_labels_mean_something(family):
    meant = related(context(family, CLASSES, classified(True)))
    assert meant.p <= LEVEL
    assert meant.by == "likeness"
    assert meant.samples == 24  # a quarter told already
    noise = related(context(family, CLASSES, classified(False)))
    assert noise.p > LEVEL
    assert noise.samples == 48
    assert abs(noise.advantage) < 4 * noise.error


def test_own_answers_are_likelier_where_the_model_knows_what_they_have_to_do_with_prompts():
    model = build(zoo.find("llama"), torch.float32)
    nothing = related(context("llama", "causal-lm", answered(True), model))
    assert nothing.p > LEVEL  # a random model knows nothing of anything
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        batch = {key: torch.stack([sample[key] for sample in answered(True)]) for key in answered(True)[0]}
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    known = related(context("llama", "causal-lm", answered(True), model))
    assert known.p <= LEVEL
    assert known.by == "likelihood"
    assert known.advantage > 0.5
    assert related(context("llama", "causal-lm", answered(False), model)).p > LEVEL


def test_the_model_is_left_as_it_was_and_the_same_seed_gives_the_same():
    model = build(zoo.find("bert-classifier"), torch.float32)
    before = snapshot(model)
    given_samples = context("bert-classifier", CLASSES, classified(True, 20), model)
    assert related(given_samples) == related(given_samples)
    assert snapshot(model) == before


def test_what_cannot_be_told_is_not():
    text = [{"input_ids": torch.arange(3, 9), "labels": torch.arange(3, 9)} for _ in range(32)]
    assert related(context("llama", "causal-lm", text)) is None
    assert related(context("bert-classifier", CLASSES, classified(True, LEAST_SAMPLES - 1))) is None
    alike = [{**sample, "labels": torch.tensor(1)} for sample in classified(True, 32)]
    assert related(context("bert-classifier", CLASSES, alike)).p == 1.0
    same_answers = [{**sample, "labels": answered(True, 1)[0]["labels"]} for sample in answered(True, 32)]
    assert related(context("llama", "causal-lm", same_answers)).p == 1.0


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from(["classes", "numbers"]))
def test_p_is_the_share_of_all_orders_that_give_no_less(seed, kind):
    """The slow reference: every order of seven samples, in place of drawn ones."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(7, 3))
    labels = draw.integers(0, 2, size=(7, 1)) if kind == "classes" else draw.normal(size=(7, 1))
    x = features - features.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    alike, y = (x @ x.T).tolist(), labels[:, 0]
    rest = y - y.mean()
    like = (np.equal.outer(y, y) if kind == "classes" else np.outer(rest, rest)).astype(float).tolist()

    def likeness(order):
        pairs = itertools.permutations(range(7), 2)
        return sum(alike[i][j] * like[order[i]][order[j]] for i, j in pairs)

    every = np.array([likeness(order) for order in itertools.permutations(range(7))])
    own = likeness(range(7))
    advantage, error, p = independence(features, labels, seed=0)
    assert p == pytest.approx((every >= own - 1e-9).mean(), abs=0.05)
    if error:
        assert advantage / error == pytest.approx((own - every.mean()) / every.std(), abs=0.2)


def test_of_labels_that_mean_nothing_few_seem_to_mean_something():
    draw = np.random.default_rng(0)
    found = [
        independence(draw.normal(size=(32, 8)), draw.integers(0, 5, size=(32, 1)), seed)[2] for seed in range(100)
    ]  # fmt: skip
    assert sum(p <= 0.05 for p in found) <= 10  # 5 are expected
    assert 0.4 < np.mean(found) < 0.6
