"""Learning rates along a run, and which samples each of its steps sees."""

from collections.abc import Sequence

import torch

from layerlens_core.profiling.samples.sample import Sample, tokens
from layerlens_core.values.comparison import Schedule

#: Samples of so many batches are sorted by length before they are cut into batches: little of these is padding then.
WINDOW = 16


def factor(step: int, schedule: Schedule) -> float:
    """The share of the largest rate in a step, as transformers' linear schedule has it.

    step: its number, from 0.
    schedule: with the number of steps and the warm-up.
    """
    if step < schedule.warmup:
        return step / max(1, schedule.warmup)
    return max(0.0, (schedule.steps - step) / max(1, schedule.steps - schedule.warmup))


def order(samples: Sequence[Sample], schedule: Schedule, seed: int) -> list[list[int]]:
    """The samples of every step, by number: epoch after epoch, each in an order of its own.

    The last batch of an epoch is left out where it is not full, unless there is no other. A shorter schedule sees other
    batches than a longer one, since it has to end with a rate of 0.

    samples: to train on.
    schedule: how many steps, of how many samples.
    seed: of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(schedule.batch, len(samples))
    batches: list[list[int]] = []
    while len(batches) < schedule.steps:
        drawn = torch.randperm(len(samples), generator=generator).tolist()
        drawn = drawn[: len(drawn) - len(drawn) % size]
        epoch = []
        for start in range(0, len(drawn), size * WINDOW):
            window = sorted(drawn[start : start + size * WINDOW], key=lambda i: tokens(samples[i]))
            epoch += [window[at : at + size] for at in range(0, len(window), size)]
        batches += [epoch[i] for i in torch.randperm(len(epoch), generator=generator).tolist()]
    return batches[: schedule.steps]
