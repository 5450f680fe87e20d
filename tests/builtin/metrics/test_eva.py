"""EVA's ranks: explained variance ratios written out, how the pool is shared, and PEFT's own code on equal data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora import EvaConfig, eva
from peft.tuners.lora.eva import get_eva_state_dict

import zoo
from layerlens_builtin.metrics import eva as ours
from layerlens_builtin.metrics.eva import explained, ranks, score
from layerlens_core.plugin import Moments, input_moments
from zoo.profiled import active_profile, texts


@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 2**31))
def test_ratios_are_those_of_a_singular_value_decomposition_of_centred_rows(rows, features, seed):
    table = np.random.default_rng(seed).normal(size=(rows, features)) + 5
    moments = Moments.nothing(features, torch.device("cpu"))
    moments.add(torch.from_numpy(table))
    squares = np.linalg.svd(table - table.mean(axis=0), compute_uv=False) ** 2
    expected = (squares / squares.sum())[:3]
    assert explained(moments, 3)[: len(expected)] == pytest.approx(expected.tolist(), abs=1e-9)


def test_inputs_that_never_vary_explain_nothing():
    moments = Moments.nothing(3, torch.device("cpu"))
    moments.add(torch.ones(4, 3))
    assert explained(moments, 2) == [0.0, 0.0]


@given(st.dictionaries(st.text(min_size=1), st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1), st.data())
def test_the_largest_ratios_win_and_what_ties_shares(ratios, data):
    pool = sorted((ratio for of_module in ratios.values() for ratio in of_module), reverse=True)
    budget = data.draw(st.integers(1, len(pool) + 2))
    found = ranks(ratios, budget)
    assert sum(found.values()) == pytest.approx(min(budget, len(pool)))
    last = pool[: budget + 1][-1] if budget < len(pool) else -1
    for name, of_module in ratios.items():
        surely = sum(ratio > last for ratio in of_module)
        assert surely <= found[name] <= surely + of_module.count(last)
    for one in ratios:
        for other in ratios:
            if sorted(ratios[one]) == sorted(ratios[other]):
                assert found[one] == found[other]


def peft_on(profile, rank, rho, monkeypatch):
    """PEFT's ratios by module, and its ranks, from all samples as one batch."""
    hooks = {}

    class Kept(eva.SVDHook):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            hooks[self.name] = self

    monkeypatch.setattr(eva, "SVDHook", Kept)
    batch = {key: torch.stack([sample[key] for sample in profile.samples]) for key in profile.samples[0]}
    config = LoraConfig(
        r=rank, target_modules=[*profile.modules], init_lora_weights="eva", eva_config=EvaConfig(rho=rho, tau=0.99)
    )
    found = get_eva_state_dict(profile.model.eval(), [batch] * 4, config, show_progress_bar=False)
    ratios = {name: hook.svd.explained_variance_ratio_.tolist() for name, hook in hooks.items()}
    return ratios, {name: len(components) for name, components in found.items()}


@pytest.mark.parametrize(("rank", "rho"), [(4, 2), (2, 2), (3, 1)])
def test_ratios_and_ranks_are_those_of_peft_on_the_same_model_and_data(rank, rho, monkeypatch):
    monkeypatch.setattr(ours, "RANK", rank)
    monkeypatch.setattr(ours, "RHO", rho)
    profile = active_profile(zoo.find("llama"), samples=tuple(texts([12] * 16)), dtype=torch.float32)
    found = score(profile)
    mine = {name: explained(moments, rank * rho) for name, moments in input_moments(profile)}
    theirs, their_ranks = peft_on(profile, rank, rho, monkeypatch)
    for name, ratios in theirs.items():
        assert mine[name] == pytest.approx(ratios[: rank * rho], rel=0.02, abs=1e-3)
    assert found.keys() == their_ranks.keys()
    assert sum(found.values()) == sum(their_ranks.values())
    groups = {}  # PEFT breaks ties among modules of one input as they come
    for name in found:
        groups.setdefault(tuple(mine[name]), []).append(name)
    for names in groups.values():
        assert sum(found[name] for name in names) == pytest.approx(sum(their_ranks[name] for name in names))
