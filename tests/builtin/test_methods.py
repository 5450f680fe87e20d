"""The methods' places and prices, by the formulas of their papers."""

import pytest

from layerlens_builtin.methods import adapter, lora, lora_experts, none, prefix
from layerlens_core.plugin import AttentionModule, ExpertWeight, Layer, LinearModule, ResidualWriter, Training

STEP = Training(batch=1, length=10, optimizer="sgd", dtype="float32")
MODEL, INNER, HEADS, KV_HEADS, KEY, VALUE = 8, 32, 4, 2, 3, 5


def linear(name, in_features, out_features, writes=False):
    return LinearModule(
        name=f"L0.{name}", layer="L0", kind="linear", in_features=in_features, out_features=out_features,
        writes_residual=writes,
    )  # fmt: skip


def attention(interface=True):
    return AttentionModule(
        name="L0.attention", layer="L0", query_heads=HEADS, key_value_heads=KV_HEADS, key_dim=KEY, value_dim=VALUE,
        interface=interface,
    )  # fmt: skip


LAYER = Layer(
    name="L0",
    modules=(linear("up", MODEL, INNER), linear("gate", MODEL, 1), linear("down", INNER, MODEL, writes=True)),
    attentions=(attention(),),
)
EXPERTS = Layer(
    name="L0",
    modules=(linear("router", MODEL, 3),),
    blocks=(ResidualWriter(name="L0.mlp", features=MODEL),),
    experts=(ExpertWeight(name="L0.mlp.up", experts=3, in_features=MODEL, out_features=INNER),),
)


def total(method, layer, size):
    costs = [target.cost(size, STEP) for target in method.METHOD.targets(layer)]
    return sum(cost.params for cost in costs), sum(cost.flops for cost in costs)


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_lora_takes_r_times_in_plus_out_on_every_linear_module(rank):
    features = (MODEL + INNER) + (MODEL + 1) + (INNER + MODEL)
    assert total(lora, LAYER, rank) == (rank * features, 3 * 2 * rank * features)
    assert [target.name for target in lora.METHOD.targets(LAYER)] == ["L0.up", "L0.gate", "L0.down"]


def test_the_largest_rank_is_that_of_the_largest_module_and_64_at_most():
    assert lora.METHOD.largest(LAYER) == MODEL
    assert lora.METHOD.largest(Layer(name="L0", modules=(linear("wide", 500, 400),))) == lora.LARGEST_RANK
    assert lora.METHOD.largest(Layer(name="L0", modules=())) == 0


@pytest.mark.parametrize("width", [1, 4])
def test_an_adapter_takes_2dm_and_both_biases_on_what_writes_to_the_residual_stream(width):
    assert total(adapter, LAYER, width) == (2 * MODEL * width + width + MODEL, 3 * 4 * MODEL * width)
    assert [target.name for target in adapter.METHOD.targets(LAYER)] == ["L0.down"]
    assert [target.name for target in adapter.METHOD.targets(EXPERTS)] == ["L0.mlp"]


def test_an_adapter_is_no_wider_than_the_residual_stream_and_256_at_most():
    assert adapter.METHOD.largest(LAYER) == MODEL
    wide = Layer(name="L0", modules=(linear("down", 10, 1000, writes=True),))
    assert adapter.METHOD.largest(wide) == adapter.LARGEST_WIDTH
    assert adapter.METHOD.largest(Layer(name="L0", modules=())) == 0


@pytest.mark.parametrize("length", [1, 8])
def test_a_prefix_takes_keys_and_values_of_its_positions_and_a_gate_a_query_head(length):
    expected = length * KV_HEADS * (KEY + VALUE) + HEADS
    assert total(prefix, LAYER, length) == (expected, 3 * 2 * length * HEADS * (KEY + VALUE))
    assert prefix.METHOD.largest(LAYER) == prefix.LONGEST


def test_a_prefix_finds_no_place_in_an_attention_of_its_own_kind():
    layer = Layer(name="L0", modules=(), attentions=(attention(interface=False),))
    assert (prefix.METHOD.targets(layer), prefix.METHOD.largest(layer)) == ((), 0)


def test_lora_on_experts_counts_all_of_them_and_a_weight_for_each_forward_pass():
    linear_part = MODEL + 3
    assert total(lora_experts, EXPERTS, 2) == (
        2 * (linear_part + 3 * (MODEL + INNER)),
        pytest.approx(3 * 2 * (2 * linear_part + 4 * 3 * MODEL * INNER / STEP.tokens)),
    )
    assert lora_experts.METHOD.targets(LAYER) == ()


def test_no_method_has_no_place_and_costs_nothing():
    assert (none.METHOD.targets(LAYER), none.METHOD.largest(LAYER), none.METHOD.ceiling) == ((), 0, 0.0)


@pytest.mark.parametrize("method", [lora, adapter, prefix, lora_experts])
def test_only_lora_changes_weights_and_so_merges(method):
    assert method.METHOD.updates_weights is (method in (lora, lora_experts))
