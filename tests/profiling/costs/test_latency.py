"""Latency is measured on the device, and changes nothing else."""

import pytest
import torch

import zoo
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import BudgetError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.latency import measure_latency
from layerlens_core.profiling.profile import profile
from layerlens_core.values.costs import Training
from zoo.profiled import build, samples


def test_every_method_takes_time_and_the_random_state_is_kept():
    model = build(zoo.find("llama"), torch.float32)
    before = torch.get_rng_state()
    measured = measure_latency(model, inspect(model))
    assert torch.equal(before, torch.get_rng_state())
    assert set(measured) == {"lora", "adapter", "prefix"}
    for fixed, per_size in measured.values():
        assert fixed >= 0
        assert per_size >= 0
        assert fixed + 64 * per_size > 0


def test_a_latency_budget_needs_the_measurement_and_binds():
    family = zoo.find("llama")
    model, data = build(family, torch.float32), samples(family)
    arguments = {"strategy": "budget", "methods": ("adapter", "lora"), "training": Training(merged=False)}
    with pytest.raises(BudgetError, match=r"adapter, lora was not measured; profile with --latency"):
        allocate(profile(model, data), budget=Budget(latency="1ms"), **arguments)
    run = profile(model, data, latency=True)
    free = allocate(run, budget=Budget(params="r=4"), **arguments)
    assert free.cost.latency > 0
    bound = f"{free.cost.latency / 2 * 1e6:.0f}us"
    half = allocate(run, budget=Budget(params="r=4", latency=bound), **arguments)
    assert 0 < half.cost.latency <= half.limits.latency < free.cost.latency


def test_merged_lora_costs_no_latency():
    family = zoo.find("llama")
    run = profile(build(family, torch.float32), samples(family))
    plan = allocate(run, budget=Budget(params="r=4", latency="0ms"))
    assert plan.parameters > 0
    assert plan.cost.latency == 0
