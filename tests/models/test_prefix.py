"""Gated prefixes against an attention written from scratch, and in everything that a model is put through."""

import copy
import io
import itertools
import re

import attrs
import pytest
import torch
import transformers
from transformers import AttentionInterface

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attach import attach
from layerlens_core.adaptation.attached import side_modules
from layerlens_core.adaptation.config import Entry, configure
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Cost

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*_?is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
    # Of PyTorch and transformers among themselves.
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

LENGTH = 3

#: Two samples of seven tokens: which of them are there.
PADDINGS = {
    "left": [[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
    "full": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
    "none": None,
}

#: For each family the attention to look at, its projections, and whether it is causal.
LOOKED_AT = {
    "llama": ("model.layers.1.self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"), True),
    "bert": ("bert.encoder.layer.1.attention.self", ("query", "key", "value", None), False),
    "t5": ("decoder.block.1.layer.1.EncDecAttention", ("q", "k", "v", "o"), False),
    "bart": ("model.decoder.layers.1.encoder_attn", ("q_proj", "k_proj", "v_proj", "out_proj"), False),
    "vit": ("vit.layers.1.attention", ("q_proj", "k_proj", "v_proj", "o_proj"), False),
}


def prefixed(model, plan_with, size=LENGTH):
    """The model with prefixes in every layer, their keys, values and gates at random."""
    wrapped = apply(model, plan_with(model, {layer.name: ("prefix", size) for layer in inspect(model).layers}))
    return randomised(wrapped)


def mixed(model, plan_with, methods=("prefix", "adapter", "lora")):
    """The model with one method after the other, all of them trained a bit."""
    layers = [layer.name for layer in inspect(model).layers]
    chosen = {layer: (method, LENGTH) for layer, method in zip(layers, itertools.cycle(methods), strict=False)}
    return randomised(apply(model, plan_with(model, chosen)))


def randomised(wrapped, scale=0.5):
    """Gates, up-projections and B, which are zero at first, and all the rest of the adapters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return wrapped


def batch(family, padding="full"):
    inputs = family.inputs()
    mask = PADDINGS[padding]
    if mask is None:
        inputs.pop("attention_mask", None)
    elif "attention_mask" in inputs:
        inputs["attention_mask"] = torch.tensor(mask)
    return inputs


def as_double(inputs):
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def real(values, padding):
    """Values [B, T, …] of the positions that are not padding."""
    mask = PADDINGS[padding]
    return values if mask is None else values[torch.tensor(mask).bool()]


def prefixes(wrapped):
    return {name: side for name, side in side_modules(wrapped).items() if side.child == "layerlens_prefix"}


# --- an attention from scratch


def softmax(scores):
    """Of a list of numbers, as in the textbook."""
    exponentials = [torch.exp(score - max(scores)) for score in scores]
    return [exponential / sum(exponentials) for exponential in exponentials]


def attend(query, keys, values, scaling):
    """What one query [d_k] takes from keys and values, lists of [d_k] and [d_v]."""
    weights = softmax([scaling * (query * key).sum() for key in keys])
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def rotated(vector, position, base):
    """Rotary positions (Su et al. 2021): the pairs (i, i + d/2) are turned by position · base^(−2i/d)."""
    half = len(vector) // 2
    turned = vector.clone()
    for i in range(half):
        angle = torch.tensor(position * base ** (-2 * i / len(vector)), dtype=vector.dtype)
        first, second = vector[i], vector[i + half]
        turned[i] = first * angle.cos() - second * angle.sin()
        turned[i + half] = second * angle.cos() + first * angle.sin()
    return turned


def from_scratch(attention, projections, hidden, source, *, heads, scaling, visible, prefix, base=None):
    """The output [B, T, m] of a whole attention module, head by head and position by position.

    hidden, source: what queries, and keys and values, are projected from. heads: of queries, and of keys and values.
    visible(b, t, s): whether position t of sample b sees position s of the source. prefix: keys [H_kv, n, d_k], values
    [H_kv, n, d_v] and gates [H_q]. base: of rotary positions, where there are any.
    """
    q, k, v, o = (None if name is None else attention.get_submodule(name) for name in projections)
    n_query, n_source = heads
    prefix_keys, prefix_values, gates = prefix
    samples = []
    for b in range(len(hidden)):
        queries = (hidden[b] @ q.weight.T + (0 if q.bias is None else q.bias)).unflatten(-1, (n_query, -1))
        keys = (source[b] @ k.weight.T + (0 if k.bias is None else k.bias)).unflatten(-1, (n_source, -1))
        values = (source[b] @ v.weight.T + (0 if v.bias is None else v.bias)).unflatten(-1, (n_source, -1))
        rows = []
        for t in range(len(queries)):
            parts = []
            for h in range(n_query):
                kv = h // (n_query // n_source)
                query = queries[t, h] if base is None else rotated(queries[t, h], t, base)
                seen = [s for s in range(len(keys)) if visible(b, t, s)]
                own = [keys[s, kv] if base is None else rotated(keys[s, kv], s, base) for s in seen]
                attended = attend(query, own, [values[s, kv] for s in seen], scaling) if seen else values[0, kv] * 0
                parts.append(attended + gates[h] * attend(query, prefix_keys[kv], prefix_values[kv], scaling))
            row = torch.cat(parts)
            rows.append(row if o is None else o.weight @ row + (0 if o.bias is None else o.bias))
        samples.append(torch.stack(rows))
    return torch.stack(samples)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", LOOKED_AT)
def test_it_is_attention_from_scratch(named_family, plan_with, name, padding, implementation):
    family = named_family(name)
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
    wrapped = prefixed(model, plan_with)
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
    expected = from_scratch(
        copy.deepcopy(attention).double(),
        projections,
        hidden,
        source,
        heads=(shape["query_heads"], shape["key_value_heads"]),
        scaling=1.0 if name == "t5" else shape["key_dim"] ** -0.5,
        visible=lambda b, t, s: (name == "vit" or mask[b, s] == 1) and (s <= t or not causal),
        prefix=(
            side.lora_prefix["default"].key.double(),
            side.lora_prefix["default"].value.double(),
            side.lora_prefix["default"].gate.double(),
        ),
        base=10_000.0 if name == "llama" else None,
    )
    # Queries that are padding may see anything.
    queries = "none" if crosses else padding
    assert expected.shape == output[0].shape
    torch.testing.assert_close(real(output[0].double(), queries), real(expected, queries), rtol=0, atol=1e-6)
    with wrapped.disable_adapter(), torch.compiler.set_stance("force_eager"):
        logits(wrapped, inputs)
    assert (real(caught[1][-1][0], queries) - real(expected, queries)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "name", ["deepseek", "gemma", "qwen3", "gpt2", "t5", "bart", "distilbert-classifier", "modernbert", "albert", "phi"]
)
def test_what_it_adds_is_attention_over_the_prefix_wherever_it_stands(named_family, plan_with, name):
    # With the queries, the scaling and the output of the model's own attention as given.
    calls = []

    def spy(module, query, key, value, mask, **options):
        output, weights = transformers.integrations.sdpa_attention.sdpa_attention_forward(
            module, query, key, value, mask, **options
        )
        calls.append((module, query, options.get("scaling"), output))
        return output, weights

    family = named_family(name)
    model = family.build().double()
    wrapped = prefixed(model, plan_with)
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
def test_caches_do_not_know_of_it(named_family, plan_with, name, padding, implementation):
    family = named_family(name)
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
    wrapped = mixed(model, plan_with, methods=("prefix", "adapter", "prefix"))
    uncached = wrapped.generate(**inputs, **settings, use_cache=False)
    assert not torch.allclose(torch.stack(uncached.logits), torch.stack(before.logits), atol=1e-2)
    for cache in ("dynamic", "static"):
        cached = wrapped.generate(**inputs, **settings, cache_implementation=cache)
        assert torch.equal(cached.sequences, uncached.sequences)
        torch.testing.assert_close(torch.stack(cached.logits), torch.stack(uncached.logits), rtol=1e-4, atol=2e-5)


# --- what is done to a model after it was applied


@pytest.mark.parametrize("name", ["llama", "bert", "t5", "vit", "gpt2"])
@pytest.mark.parametrize("order", [("sdpa", "eager"), ("eager", "sdpa")])
def test_another_implementation_keeps_it(named_family, plan_with, name, order):
    family = named_family(name)
    inputs = batch(family, "left")
    model = family.build()
    model.set_attn_implementation(order[0])
    wrapped = prefixed(model, plan_with)
    first = logits(wrapped, inputs)
    wrapped.set_attn_implementation(order[1])
    assert {side.config._attn_implementation for side in prefixes(wrapped).values()} == {order[1]}
    assert {side.implementation.__name__ for side in prefixes(wrapped).values()} == {
        {"eager": "eager_attention_forward", "sdpa": "sdpa_attention_forward"}[order[1]]
    }
    second = logits(wrapped, inputs)

    fresh = family.build()
    fresh.set_attn_implementation(order[1])
    fresh = prefixed(fresh, plan_with)
    assert torch.equal(second, logits(fresh, inputs))
    if name not in ("vit", "t5"):
        first, second = real(first, "left"), real(second, "left")
    torch.testing.assert_close(first, second, rtol=1e-4, atol=2e-5)
    with wrapped.disable_adapter(), fresh.disable_adapter():
        assert torch.equal(logits(wrapped, inputs), logits(fresh, inputs))


def test_the_model_s_own_attention_finds_its_name_where_it_looks_for_it(named_family, plan_with):
    # Flash attention loads its kernel by the name in the configuration of the module that it is given.
    family = named_family("llama")
    model = family.build()
    before = logits(model, family.inputs())
    seen = []

    def by_name(module, *args, **options):
        seen.append(module.config._attn_implementation)
        return transformers.integrations.sdpa_attention.sdpa_attention_forward(module, *args, **options)

    AttentionInterface.register("attention_by_name", by_name)
    transformers.AttentionMaskInterface.register("attention_by_name", transformers.masking_utils.sdpa_mask)
    try:
        wrapped = apply(model, plan_with(model, {layer.name: ("prefix", 2) for layer in inspect(model).layers}))
        wrapped.set_attn_implementation("attention_by_name")
        assert torch.equal(logits(wrapped, family.inputs()), before)
        assert seen == ["attention_by_name"] * 3
        assert not torch.equal(logits(randomised(wrapped), family.inputs()), before)
    finally:
        del AttentionInterface._global_mapping["attention_by_name"]
        del transformers.AttentionMaskInterface._global_mapping["attention_by_name"]


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_attention_weights_are_still_given(named_family, plan_with, name):
    family = named_family(name)
    model = family.build()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        before = model(**family.inputs(), output_attentions=True).attentions
        wrapped = prefixed(model, plan_with)
        after = wrapped(**family.inputs(), output_attentions=True).attentions
    assert len(after) == len(before) == 3
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    torch.testing.assert_close(torch.stack(after).sum(-1), torch.ones(3, 2, 4, 7))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["llama", "bert-classifier", "t5", "vit"])
def test_checkpointing_gives_the_same_gradients(named_family, plan_with, name, reentrant, when):
    family = named_family(name)
    options = {"gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}

    def gradients(*, checkpointing):
        model = family.build()
        if checkpointing and when == "before":
            model.gradient_checkpointing_enable(**options)
        wrapped = mixed(model, plan_with)
        if checkpointing and when == "after":
            model.gradient_checkpointing_enable(**options)
            if name != "vit":
                wrapped.enable_input_require_grads()
        wrapped.train()
        torch.manual_seed(1)
        inputs = family.inputs(labels=True)
        if name == "vit":
            # Reentrant checkpoints ask for an input that needs a gradient, and an image is the only one.
            inputs["pixel_values"].requires_grad_()
        runs = []
        first = next(iter(side_modules(wrapped).values()))
        first.register_forward_hook(lambda *_: runs.append(1))
        loss = wrapped(**inputs).loss
        loss.backward()
        return loss, {n: p.grad for n, p in wrapped.named_parameters() if p.requires_grad}, len(runs)

    loss, plain, once = gradients(checkpointing=False)
    loss_again, checkpointed, twice = gradients(checkpointing=True)
    assert (once, twice) == (1, 2)
    torch.testing.assert_close(loss_again, loss)
    assert plain.keys() == checkpointed.keys()
    for parameter, gradient in plain.items():
        assert gradient.abs().max() > 0, parameter
        torch.testing.assert_close(checkpointed[parameter], gradient, rtol=1e-4, atol=1e-6, msg=parameter)


def test_it_compiles_as_one_graph(named_family, plan_with):
    family = named_family("llama")
    wrapped = mixed(family.build(), plan_with)
    assert {type(side).child for side in side_modules(wrapped).values()} == {
        "layerlens_prefix",
        "layerlens_bottleneck",
    }

    def step(model):
        wrapped.zero_grad()
        output = model(**family.inputs(labels=True))
        output.loss.backward()
        return output.logits, {n: p.grad.clone() for n, p in wrapped.named_parameters() if p.requires_grad}

    expected, gradients = step(wrapped)
    torch._dynamo.reset()
    # The inductor takes more than a minute on one core, for the same graph.
    compiled, compiled_gradients = step(torch.compile(wrapped, fullgraph=True, backend="aot_eager"))
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-6)
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_a_file])
@pytest.mark.parametrize("name", ["llama", "bert-classifier", "t5"])
def test_a_copy_runs_its_own_parameters(named_family, plan_with, name, copied):
    family = named_family(name)
    model = family.build()
    inputs = batch(family, "right")
    before = logits(model, inputs)
    wrapped = mixed(model, plan_with)
    trained = logits(wrapped, inputs)
    other = copied(wrapped)
    assert torch.equal(logits(other, inputs), trained)
    owned = {id(module) for module in wrapped.modules()} | {id(p) for p in wrapped.parameters()}
    assert not owned & ({id(module) for module in other.modules()} | {id(p) for p in other.parameters()})
    for side in side_modules(other).values():
        assert id(side.host) not in owned
    # What nothing adds is as before: each part switched off in the copy alone.
    with torch.no_grad():
        for parameter_name, parameter in other.named_parameters():
            if parameter_name.endswith(".gate") or ".lora_up." in parameter_name or ".lora_B." in parameter_name:
                parameter.zero_()
    assert torch.equal(logits(other, inputs), before)
    assert torch.equal(logits(wrapped, inputs), trained)
    # Nor do they share a configuration.
    implementation = model.config._attn_implementation
    other.set_attn_implementation("eager")
    assert {side.config._attn_implementation for side in prefixes(other).values()} == {"eager"}
    assert {side.config._attn_implementation for side in prefixes(wrapped).values()} == {implementation} == {"sdpa"}
    other.unload()
    assert torch.equal(logits(wrapped, inputs), trained)


# --- where it does not belong


def falcon():
    return transformers.FalconForCausalLM(
        transformers.FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=97)
    )


def deepseek_v32():
    # Of seven positions its indexer leaves two to see.
    torch.manual_seed(0)
    config = transformers.DeepseekV32Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
        first_k_dense_replace=2,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=6,
        index_topk=2,
        index_head_dim=8,
        index_n_heads=2,
    )
    return transformers.DeepseekV32ForCausalLM(config).eval()


def upcasting_gpt2():
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=97, reorder_and_upcast_attn=True
    )
    return transformers.GPT2LMHeadModel(config).eval()


#: Models whose attention prefixes cannot reach: outside the interface, or asking again for its own name.
OUTSIDE = {
    "bloom": ("BloomAttention", "transformer.h.0.self_attention", "bloom"),
    "deberta": ("DisentangledSelfAttention", "deberta.encoder.layer.0.attention.self", "deberta"),
    "gptj": ("GPTJAttention", "transformer.h.0.attn", "gptj"),
    "falcon": ("FalconAttention", "transformer.h.0.self_attention", falcon),
    "deepseek-v3.2": ("DeepseekV32Attention", "model.layers.0.self_attn", deepseek_v32),
    "gpt2-upcasting": ("GPT2Attention", "transformer.h.0.attn", upcasting_gpt2),
}


@pytest.fixture(params=OUTSIDE)
def outside(request, named_family):
    """The class of an attention that cannot have a prefix, its name in a model, and the model."""
    kind, where, model = OUTSIDE[request.param]
    return kind, where, named_family(model).build() if isinstance(model, str) else model()


def test_a_family_outside_the_interface_is_refused_by_name(outside, snapshot):
    kind, where, model = outside
    assert type(model.get_submodule(where)).__name__ == kind
    shape = {"query_heads": 4, "key_value_heads": 4, "key_dim": 8, "value_dim": 8}
    first = next(module for module in inspect(model).modules if module.name.startswith(where.rsplit(".", 1)[0]))
    entries = {
        first.name: Entry(
            method="lora", size=2, shape={"in_features": first.in_features, "out_features": first.out_features}
        ),
        where: Entry(method="prefix", size=2, shape=shape),
    }
    before = snapshot(model)
    with pytest.raises(ModelError, match=rf"^{kind} \({where}\) .*--methods that leave out prefix$"):
        attach(model, configure(entries, scale=2))
    assert snapshot(model) == before


def test_no_plan_puts_a_prefix_there(outside, plan_with, snapshot):
    _, where, model = outside
    inventory = inspect(model)
    layer = inventory.layers[0]
    assert layer.attentions
    provider = default().load("method", "prefix")
    assert (provider.targets(layer), provider.largest(layer)) == ((), 0)
    plan = plan_with(model, {layer.name: ("prefix", 2)})
    attention = next(attention for attention in layer.attentions if attention.name == where)
    params = 2 * attention.key_value_heads * (attention.key_dim + attention.value_dim) + attention.query_heads
    forced = attrs.evolve(plan.decisions[0], sizes={where: 2}, cost=Cost(params=params))
    plan = attrs.evolve(plan, decisions=(forced, *plan.decisions[1:]), cost=forced.cost)
    before = snapshot(model)
    with pytest.raises((PlanError, ModelError), match=re.escape(where)):
        apply(model, plan)
    assert snapshot(model) == before
