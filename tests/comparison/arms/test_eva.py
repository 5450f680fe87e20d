"""EVA's ranks, as PEFT itself finds them on a model and some data."""

import pytest
import torch

import zoo
from comparison.arms.random_profiles import profile_of
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.arms import eva
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.inspection.inspect import inspect


def _batches(rows=8, length=12):
    generator = torch.Generator().manual_seed(3)
    tokens = [torch.randint(4, 97, (rows, length), generator=generator) for _ in range(2)]
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in tokens]


def _hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_pefts_own_ranks_become_an_arm_and_the_model_is_left_as_it_was():
    model = zoo.build("llama").train()
    inventory = inspect(model)
    names = [module.name for module in inventory.modules]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ranks = eva.eva_ranks(model, _batches(), names, rank=3)
    assert set(ranks) == set(names)
    assert sum(ranks.values()) == 3 * len(names)
    assert max(ranks.values()) <= 6
    assert len(set(ranks.values())) > 1
    assert model.training
    assert not _hooks(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    profile = profile_of(inventory, dict.fromkeys(names, 1.0))
    plan = allocate(profile, budget="params=r=3")
    (arm,), _ = make_arms(
        ["eva"],
        ["r=3"],
        profile=profile,
        plan=plan,
        eva=lambda rank: eva.eva_ranks(model, _batches(), names, rank=rank),
    )
    bound = inventory.lora_parameters(3)
    assert 0.95 * bound < arm.parameters <= bound
    assert set(arm.sizes["lora"]) <= {name for name, rank in ranks.items() if rank}


def test_what_peft_would_repeat_for_ever_is_refused(monkeypatch):
    model = zoo.build("llama")
    names = [module.name for module in inspect(model).modules]
    with pytest.raises(Unfit, match="EVA asks for 6 components, and a batch has 4 tokens"):
        eva.eva_ranks(model, _batches(rows=1, length=4), names, rank=3)
    monkeypatch.setattr(eva, "MOST_PASSES", 2)
    with pytest.raises(Unfit, match="have not converged in 2 passes"):
        eva.eva_ranks(model, _batches(), names, rank=3)
    assert not _hooks(model)


def test_what_peft_refuses_is_said():
    model = zoo.build("llama")
    with pytest.raises(Unfit, match="PEFT's EVA cannot rank these modules"):
        eva.eva_ranks(model, _batches(), [module.name for module in inspect(model).modules], rank=20)
