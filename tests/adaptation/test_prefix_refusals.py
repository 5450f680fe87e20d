"""Where prefixes do not belong."""

import re

import attrs
import pytest

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attach import attach
from layerlens_core.adaptation.config import Entry, configure
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Cost
from zoo.plans import plan_with
from zoo.probing import snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*_?is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
    # Of PyTorch and transformers among themselves.
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

#: Models whose attention prefixes cannot reach: outside the interface, or asking again for its own name.
OUTSIDE = {
    "bloom": ("BloomAttention", "transformer.h.0.self_attention", zoo.find("bloom")),
    "deberta-v2": (
        "DisentangledSelfAttention",
        "deberta.encoder.layer.0.attention.self",
        zoo.find("deberta-v2-masked"),
    ),
    "falcon": ("FalconAttention", "transformer.h.0.self_attention", zoo.find("falcon")),
    "deepseek-v3.2": ("DeepseekV32Attention", "model.layers.0.self_attn", zoo.find("deepseek_v32")),
    "gpt2-upcasting": (
        "GPT2Attention",
        "transformer.h.0.attn",
        zoo.find("gpt2").with_config(reorder_and_upcast_attn=True),
    ),
}
if not zoo.find("gptj").expected.attends:  # before transformers 5.24
    OUTSIDE["gptj"] = ("GPTJAttention", "transformer.h.0.attn", zoo.find("gptj"))
    OUTSIDE["codegen"] = ("CodeGenAttention", "transformer.h.0.attn", zoo.find("codegen"))


@pytest.fixture(params=OUTSIDE)
def outside(request):
    """The class of an attention that cannot have a prefix, its name in a model, and the model."""
    kind, where, model = OUTSIDE[request.param]
    return kind, where, model.build()


def test_a_family_outside_the_interface_is_refused_by_name(outside):
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


def test_no_plan_puts_a_prefix_there(outside):
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
