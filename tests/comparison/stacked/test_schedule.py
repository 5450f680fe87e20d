"""Rates as transformers has them, and batches that cover the samples."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from layerlens_core.comparison.stacked.schedule import factor, order
from layerlens_core.values.comparison import Schedule


@given(steps=st.integers(1, 40), warmup=st.integers(0, 40))
def test_rates_follow_the_linear_schedule_of_transformers(steps, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    for step in range(steps):
        assert factor(step, Schedule(steps=steps, batch=1, warmup=warmup)) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=50),
    steps=st.integers(1, 30),
    batch=st.integers(1, 8),
    seed=st.integers(0, 5),
)
def test_every_epoch_sees_a_sample_once_at_most(lengths, steps, batch, seed):
    samples = [{"input_ids": torch.zeros(length, dtype=torch.long)} for length in lengths]
    batches = order(samples, Schedule(steps=steps, batch=batch), seed)
    size = min(batch, len(samples))
    assert len(batches) == steps
    assert {len(chosen) for chosen in batches} == {size}
    epoch = len(samples) // size
    for start in range(0, steps, epoch):
        seen = [i for chosen in batches[start : start + epoch] for i in chosen]
        assert len(seen) == len(set(seen))
    assert batches == order(samples, Schedule(steps=steps, batch=batch), seed)
