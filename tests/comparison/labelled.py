"""Samples whose labels follow from their inputs, or mean nothing."""

import random

import torch

import zoo
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
