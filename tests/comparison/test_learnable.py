"""Labels that follow from inputs are told from labels that mean nothing, which gradients at the first step are not."""

import random

import pytest
import torch

import zoo
from layerlens_core.comparison.learnable import held_out_advantage
from layerlens_core.errors import DataError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin import ActiveProfile
from zoo.profiled import build

IGNORED = -100


def context(family: str, task: str, samples: list, model=None) -> ActiveProfile:
    model = model or build(zoo.find(family), torch.float32)
    inventory = inspect(model)
    scored = tuple(layer.name for layer in inventory.layers)
    return ActiveProfile(
        model=model, inventory=inventory, scored=scored, samples=tuple(samples), task=task, micro_batch=16, seed=0,
        progress=lambda done, total: None,
    )  # fmt: skip


def classified(meaningful: bool, count: int = 96) -> list:
    """Texts of one word over and over, whose class is the word's; or not."""
    draw = random.Random(0)
    labels = [i % 3 for i in range(count)]
    words = [5 + 4 * label for label in labels]
    if not meaningful:
        draw.shuffle(labels)
    return [
        {
            "input_ids": torch.full((6,), word),
            "attention_mask": torch.ones(6, dtype=torch.long),
            "labels": torch.tensor(y),
        }
        for word, y in zip(words, labels, strict=True)
    ]


def answered(meaningful: bool, count: int = 96) -> list:
    """Prompts of one word, and two words of an answer that follow from it; or not."""
    samples = classified(meaningful, count)
    found = []
    for sample in samples:
        answer = torch.tensor([10 + int(sample["labels"]), 20])
        prompt = sample["input_ids"][:4]
        labels = torch.cat([torch.full_like(prompt, IGNORED), answer])
        ids = torch.cat([prompt, answer])
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return found


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
    assert abs(noise.advantage) < 3 * noise.error
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
    assert (found.advantage, found.samples) == (0.0, 0)
