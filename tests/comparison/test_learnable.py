"""Labels that follow from inputs are told from labels that mean nothing, which gradients at the first step are not."""

import pytest
import torch

import zoo
from comparison.labelled import answered, classified, context
from layerlens_core.comparison.learnable import beyond_noise, held_out_advantage
from layerlens_core.errors import DataError
from zoo.profiled import build


@pytest.mark.parametrize(
    ("family", "task", "make"),
    [("bert-classifier", "sequence-classification", classified), ("llama", "causal-lm", answered)],
)
def test_right_labels_are_learned_better_than_permuted_ones_where_they_mean_something(family, task, make):
    learned = held_out_advantage(context(family, task, make(True)))
    noise = held_out_advantage(context(family, task, make(False)))
    assert learned is not None
    assert noise is not None
    assert learned.advantage > 3 * learned.error > 0
    assert learned.p < 1e-3
    assert abs(noise.advantage) < 3 * noise.error
    assert noise.p > 0.01
    assert learned.samples > 48


def test_the_model_is_left_as_it_was_and_the_same_seed_gives_the_same():
    model = build(zoo.find("bert-classifier"), torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = context("bert-classifier", "sequence-classification", classified(True, 16), model)
    first, second = held_out_advantage(given), held_out_advantage(given)
    assert first == second
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_labels_that_cannot_be_permuted_and_too_few_samples():
    text = [{"input_ids": torch.arange(3, 9), "labels": torch.arange(3, 9)} for _ in range(8)]
    assert held_out_advantage(context("llama", "causal-lm", text)) is None
    with pytest.raises(DataError, match="at least 8 samples, but there are 4"):
        held_out_advantage(context("llama", "causal-lm", answered(True, 4)))


def test_one_class_alone_teaches_nothing():
    alike = [{**sample, "labels": torch.tensor(1)} for sample in classified(True, 16)]
    found = held_out_advantage(context("bert-classifier", "sequence-classification", alike))
    assert (found.advantage, found.samples, found.p) == (0.0, 0, 1.0)


@pytest.mark.parametrize(("mean", "error", "count"), [(0.3, 0.1, 5), (-0.2, 0.1, 40), (0.0, 1.0, 2)])
def test_the_p_of_a_mean_is_students(mean, error, count):
    from scipy import stats

    assert beyond_noise(mean, error, count) == pytest.approx(stats.t.sf(mean / error, count - 1))
    assert (beyond_noise(mean, 0.0, count) == 0.0) == (mean > 0)
