"""Models with prefixes in everything that a model is put through."""

import copy
import io

import pytest
import torch
import transformers
from transformers import AttentionInterface

import zoo
from adaptation.prefixed import batch, logits, mixed, prefixed, prefixes, randomised, real
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import side_modules
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*_?is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
    # Of PyTorch and transformers among themselves.
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.mark.parametrize("name", ["llama", "bert", "t5", "vit", "gpt2"])
@pytest.mark.parametrize("order", [("sdpa", "eager"), ("eager", "sdpa")])
def test_another_implementation_keeps_it(name, order):
    family = zoo.find(name)
    inputs = batch(family, "left")
    model = family.build()
    model.set_attn_implementation(order[0])
    wrapped = prefixed(model)
    first = logits(wrapped, inputs)
    wrapped.set_attn_implementation(order[1])
    assert {side.config._attn_implementation for side in prefixes(wrapped).values()} == {order[1]}
    assert {side.implementation.__name__ for side in prefixes(wrapped).values()} == {
        {"eager": "eager_attention_forward", "sdpa": "sdpa_attention_forward"}[order[1]]
    }
    second = logits(wrapped, inputs)

    fresh = family.build()
    fresh.set_attn_implementation(order[1])
    fresh = prefixed(fresh)
    assert torch.equal(second, logits(fresh, inputs))
    if name not in ("vit", "t5"):
        first, second = real(first, "left"), real(second, "left")
    torch.testing.assert_close(first, second, rtol=1e-4, atol=2e-5)
    with wrapped.disable_adapter(), fresh.disable_adapter():
        assert torch.equal(logits(wrapped, inputs), logits(fresh, inputs))


def test_the_model_s_own_attention_finds_its_name_where_it_looks_for_it():
    # Flash attention loads its kernel by the name in the configuration of the module that it is given.
    family = zoo.find("llama")
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
def test_attention_weights_are_still_given(name):
    family = zoo.find(name)
    model = family.build()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        before = model(**family.inputs(), output_attentions=True).attentions
        wrapped = prefixed(model)
        after = wrapped(**family.inputs(), output_attentions=True).attentions
    assert len(after) == len(before) == 3
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    torch.testing.assert_close(torch.stack(after).sum(-1), torch.ones(3, 2, 4, 7))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["llama", "bert-classifier", "t5", "vit"])
def test_checkpointing_gives_the_same_gradients(name, reentrant, when):
    family = zoo.find(name)
    options = {"gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}

    def gradients(*, checkpointing):
        model = family.build()
        if checkpointing and when == "before":
            model.gradient_checkpointing_enable(**options)
        wrapped = mixed(model)
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


def test_it_compiles_as_one_graph():
    family = zoo.find("llama")
    wrapped = mixed(family.build())
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
def test_a_copy_runs_its_own_parameters(name, copied):
    family = zoo.find(name)
    model = family.build()
    inputs = batch(family, "right")
    before = logits(model, inputs)
    wrapped = mixed(model)
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
