"""Stacked prefixes against one prefix after the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comparison.stacked.methods.places import blocks, check, placed
from layerlens_core.comparison.stacked.methods.place import Pass
from layerlens_core.comparison.stacked.methods.prefixes import Prefixes
from layerlens_core.errors import ModelError


def attended(tensors, query, output):
    """Head by head: the query's own group of keys and values, and zeros where the output is wider than values."""
    key, value, gate = (tensors[f"lora_prefix.default.{name}"] for name in ("key", "value", "gate"))
    group = len(gate) // len(key)
    result = output.clone()
    for head in range(len(gate)):
        weights = torch.softmax(query[:, head] @ key[head // group].mT, dim=-1)
        result[:, :, head, : value.shape[-1]] += gate[head] * (weights @ value[head // group])
    return result


@given(
    block=blocks(),
    samples=st.integers(1, 3),
    tokens=st.integers(1, 4),
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1)]),
    wider=st.integers(0, 2),
)
def test_each_arm_attends_to_its_own_positions_alone(block, samples, tokens, heads, wider):
    sizes, arms, seed = block
    generator = torch.Generator().manual_seed(seed)
    shape = {"query_heads": heads[0], "key_value_heads": heads[1], "key_dim": 4, "value_dim": 3}
    running = Pass(arms, samples)
    place = placed(Prefixes, shape, sizes, running, generator)
    rows = running.count * samples

    def noise(*lengths):
        return torch.randn(lengths, generator=generator, dtype=torch.float64)

    query = noise(rows, heads[0], tokens, 4)
    output, gradient = (noise(rows, tokens, heads[0], 3 + wider) for _ in range(2))
    check(place, attended, query, output, gradient, lambda tensor: tensor.chunk(running.count), itself=False)


@given(size=st.integers(1, 40), more=st.integers(0, 9), seed=st.integers(0, 3))
def test_prefixes_of_one_seed_start_from_the_same_noise(size, more, seed):
    shape = {"query_heads": 4, "key_value_heads": 2, "key_dim": 5, "value_dim": 3}
    start, larger = (Prefixes.start("m", length, shape, seed) for length in (size, size + more))
    assert set(start) == {"lora_prefix.default.key", "lora_prefix.default.value"}
    for part, tensor in start.items():
        assert tensor.shape == Prefixes.shapes(size, shape)[part]
        assert torch.equal(tensor, larger[part][:, :size])


def test_prefixes_start_as_the_method_draws_them():
    shape = {"query_heads": 8, "key_value_heads": 8, "key_dim": 64, "value_dim": 64}
    for tensor in Prefixes.start("m", 64, shape, 0).values():
        assert tensor.mean().item() == pytest.approx(0, abs=0.03)
        assert tensor.std().item() == pytest.approx(1, rel=0.03)


def test_an_attention_of_other_heads_than_planned_is_told():
    shape = {"query_heads": 2, "key_value_heads": 2, "key_dim": 4, "value_dim": 4}
    place = placed(Prefixes, shape, [2, 3], Pass(slice(0, 2), 1), torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match="the prefix at m is for 2 samples, 2 query heads of 4"):
        place.add(torch.zeros(4, 2, 3, 4), torch.zeros(4, 3, 2, 4))
