"""Gated prefixes against an attention written from scratch, and beside caches."""

import copy
import itertools

import pytest
import torch
import transformers
from transformers import AttentionInterface

import zoo
from adaptation.plain_attention import PlainAttention, attend
from adaptation.prefixed import PADDINGS, batch, logits, mixed, prefixed, prefixes, real
from layerlens_core.adaptation.config import Entry

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*_?is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
    # Of PyTorch and transformers among themselves.
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

#: For each family the attention to look at, its projections, and whether it is causal.
LOOKED_AT = {
    "llama": ("model.layers.1.self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"), True),
    "bert": ("bert.encoder.layer.1.attention.self", ("query", "key", "value", None), False),
    "t5": ("decoder.block.1.layer.1.EncDecAttention", ("q", "k", "v", "o"), False),
    "bart": ("model.decoder.layers.1.encoder_attn", ("q_proj", "k_proj", "v_proj", "out_proj"), False),
    "vit": ("vit.layers.1.attention", ("q_proj", "k_proj", "v_proj", "o_proj"), False),
}


def as_double(inputs):
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", LOOKED_AT)
def test_it_is_attention_from_scratch(name, padding, implementation):
    family = zoo.find(name)
    if name == "vit" and padding != "none":
        pytest.skip("images have no padding")
    if name in ("t5", "bart") and implementation == "flex_attention":
        pytest.skip("of flex attention, this one is not offered or has a bias")
    where, projections, causal = LOOKED_AT[name]
    # Transformers' eager attention makes NaN of a row without any key in float64, with or without a prefix.
    double = not (causal and padding == "left" and implementation == "eager")
    model = family.build()
    model = model.double() if double else model
    model.set_attn_implementation(implementation)
    wrapped = prefixed(model)
    attention = model.get_submodule(where)
    caught = []
    inputs = batch(family, padding)
    inputs = as_double(inputs) if double else inputs
    attention.register_forward_hook(lambda _, *call: caught.append(call), with_kwargs=True)
    with torch.compiler.set_stance("force_eager"):
        logits(wrapped, inputs)
    ((args, kwargs, output),) = caught

    hidden = (args[0] if args else kwargs["hidden_states"]).double()
    crosses = "EncDec" in where or "encoder_attn" in where
    source = kwargs["key_value_states"].double() if crosses else hidden
    mask = torch.ones(2, 7) if PADDINGS[padding] is None else torch.tensor(PADDINGS[padding])
    side = prefixes(wrapped)[where]
    shape = Entry(**wrapped.peft_config["default"].entries[where]).shape
    plain = PlainAttention(
        module=copy.deepcopy(attention).double(),
        projections=projections,
        heads=(shape["query_heads"], shape["key_value_heads"]),
        scaling=1.0 if name == "t5" else shape["key_dim"] ** -0.5,
        prefix=(
            side.lora_prefix["default"].key.double(),
            side.lora_prefix["default"].value.double(),
            side.lora_prefix["default"].gate.double(),
        ),
        base=10_000.0 if name == "llama" else None,
    )
    expected = plain.outputs(
        hidden, source, lambda b, t, s: (name == "vit" or mask[b, s] == 1) and (s <= t or not causal)
    )
    # Queries that are padding may see anything.
    queries = "none" if crosses else padding
    assert expected.shape == output[0].shape
    torch.testing.assert_close(real(output[0].double(), queries), real(expected, queries), rtol=0, atol=1e-6)
    with wrapped.disable_adapter(), torch.compiler.set_stance("force_eager"):
        logits(wrapped, inputs)
    assert (real(caught[1][-1][0], queries) - real(expected, queries)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "name",
    ["deepseek-dense", "gemma", "qwen3", "gpt2", "t5", "bart", "distilbert-classifier", "modernbert", "albert", "phi"],
)
def test_what_it_adds_is_attention_over_the_prefix_wherever_it_stands(name):
    # With the queries, the scaling and the output of the model's own attention as given.
    calls = []

    def spy(module, query, key, value, mask, **options):
        output, weights = transformers.integrations.sdpa_attention.sdpa_attention_forward(
            module, query, key, value, mask, **options
        )
        calls.append((module, query, options.get("scaling"), output))
        return output, weights

    family = zoo.find(name)
    model = family.build().double()
    wrapped = prefixed(model)
    model.set_attn_implementation("sdpa")
    results = []
    for side in prefixes(wrapped).values():
        side.register_forward_hook(lambda side, args, output: results.append((side, output)))
    original = AttentionInterface._global_mapping["sdpa"]
    AttentionInterface.register("sdpa", spy)
    try:
        logits(wrapped, batch(family))
    finally:
        AttentionInterface.register("sdpa", original)
    assert len(results) == len(calls) >= len(prefixes(wrapped))
    for (module, query, scaling, output), (side, result) in zip(calls, results, strict=True):
        assert side.host is module
        prefix = side.lora_prefix["default"]
        keys, values, gates = prefix.key, prefix.value, prefix.gate
        group = query.shape[1] // len(keys)
        for b, h, t in itertools.product(*map(range, query.shape[:3])):
            added = gates[h] * attend(query[b, h, t], keys[h // group], values[h // group], scaling)
            torch.testing.assert_close(
                result[b, t, h, : len(added)], output[b, t, h, : len(added)] + added, rtol=0, atol=1e-6
            )


# --- caches


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("padding", ["left", "full"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "bart", "t5"])
def test_caches_do_not_know_of_it(name, padding, implementation):
    family = zoo.find(name)
    model = family.build()
    model.set_attn_implementation(implementation)
    inputs = {key: value for key, value in batch(family, padding).items() if not key.startswith("decoder")}
    settings = {
        "max_new_tokens": 6,
        "min_new_tokens": 6,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    before = model.generate(**inputs, **settings, use_cache=False)
    wrapped = mixed(model, methods=("prefix", "adapter", "prefix"))
    uncached = wrapped.generate(**inputs, **settings, use_cache=False)
    assert not torch.allclose(torch.stack(uncached.logits), torch.stack(before.logits), atol=1e-2)
    for cache in ("dynamic", "static"):
        cached = wrapped.generate(**inputs, **settings, cache_implementation=cache)
        assert torch.equal(cached.sequences, uncached.sequences)
        torch.testing.assert_close(torch.stack(cached.logits), torch.stack(uncached.logits), rtol=1e-4, atol=2e-5)
