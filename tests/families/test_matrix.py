"""Every method on every family: what works, what is refused and why; docs/families.md is the record."""

import os
from pathlib import Path

import pytest
import torch
import transformers
from transformers.modeling_utils import AttentionInterface

from families import SPECIMENS, build, frozen
from families.document import lines_under, markdown
from families.support import SIZES, check, check_experts, each_kind_of_layer, mixed, places, refusing_prefix
from families.table import row
from layerlens_builtin.modules.gated_prefix import GatedPrefix
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, side_modules
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from zoo.plans import plan_with
from zoo.probing import snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"
WRITTEN = DOCUMENT.read_text(encoding="utf-8")
WRITE = "LAYERLENS_WRITE_FAMILIES"
VERSION = ".".join(transformers.__version__.split(".")[:2])
#: The rows that this process found, which alone can be written; each is held to the document by its own test.
ROWS = {}


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_method_does_what_it_says_or_is_refused(name, tmp_path):
    specimen = SPECIMENS[name]
    model = build(specimen.row)
    inventory = inspect(model)
    plans = {method: each_kind_of_layer(inventory, method) for method in SIZES}
    plans["mixed"] = mixed(inventory)
    saved = []
    for method, chosen in plans.items():
        if chosen:
            kind = check(specimen, model, plan_with(model, chosen), tmp_path / method)
            if method in ("lora", "lora-experts"):
                saved.append(kind)
            elif any(chosen_method in ("adapter", "prefix") for chosen_method, _ in chosen.values()):
                assert kind == "LAYERLENS"
        elif method in ("adapter", "prefix"):
            check_refused(model, inventory, method)
    ROWS[name] = row(name, specimen.kind, model, inventory, saved).line
    if WRITE not in os.environ:
        expected = lines_under(VERSION, WRITTEN).get(name)
        assert ROWS[name] == expected, f"docs/families.md differs; to write it anew: {WRITE}=1 pytest tests/families"


def check_refused(model, inventory, method):
    """It is never a candidate, and a plan that has it all the same is refused in one line that names what is wrong."""
    layer = inventory.layers[0]
    assert all(default().load("method", method).largest(layer) == 0 for layer in inventory.layers)
    known = [layer for layer in inventory.layers if layer.attentions] if method == "prefix" else []
    if known:
        plan, error = refusing_prefix(model, inventory, known[0]), ModelError
        expected = f"{known[0].attentions[0].name}.*does not leave its attention to transformers' attention interface"
    else:
        plan, error, expected = plan_with(model, {layer.name: (method, SIZES[method])}), PlanError, "trains nothing"
    before = snapshot(model)
    with pytest.raises(error, match=expected) as refusal:
        apply(model, plan)
    assert "\n" not in str(refusal.value)
    assert snapshot(model) == before


def test_the_document_has_a_row_of_every_model_and_counts_them():
    families = len({getattr(transformers, each.architecture).config_class.model_type for each in SPECIMENS.values()})
    rows = ROWS if WRITE in os.environ else lines_under(VERSION, WRITTEN)
    assert rows.keys() == SPECIMENS.keys(), "rows are written by one process that runs the tests of all families"
    document = markdown({name: rows[name] for name in SPECIMENS}, families, VERSION, WRITTEN)
    if WRITE in os.environ:
        DOCUMENT.write_text(document, encoding="utf-8")
    else:
        assert document == WRITTEN


# --- what the sweep relies on


@pytest.mark.parametrize("name", SPECIMENS)
def test_attentions_on_the_interface_have_the_heads_and_widths_of_the_inventory(name, monkeypatch):
    specimen = SPECIMENS[name]
    model = build(specimen.row)
    planned = {
        a.name: (a.query_heads, a.key_dim, (a.key_value_heads, a.key_dim), (a.key_value_heads, a.value_dim))
        for layer in inspect(model).layers
        for a in layer.attentions
        if a.interface
    }
    if not planned:
        pytest.skip("no attention that takes a prefix")
    if name == "jetmoe":
        pytest.skip("it repeats its two key-value heads itself, before it calls the interface")
    names = {module: name for name, module in model.named_modules()}
    found, choose = {}, AttentionInterface.get_interface

    def get_interface(interfaces, implementation, default):
        attend = choose(interfaces, implementation, default)

        def record(module, query, key, value, *args, **kwargs):
            shapes = [(tensor.shape[1], tensor.shape[3]) for tensor in (query, key, value)]
            found[names[module]] = (*shapes[0], *shapes[1:])
            return attend(module, query, key, value, *args, **kwargs)

        return record

    monkeypatch.setattr(AttentionInterface, "get_interface", get_interface)
    with torch.no_grad():
        model(**specimen.batch())
    assert {name: found.get(name) for name in planned} == planned


#: Layers that add more than what adapters can correct, or change the shape of what they read.
ADD_MORE = {
    "convnext": "downsamples",
    "fnet": "its Fourier transform has no parameters",
    "funnel": "its layers are lists, which are not called",
    "gemma4": "the inputs of a layer are added too",
    "pvt_v2": "downsamples",
    "qwen3_vl": "merges patches beside its layers",
    "segformer": "downsamples",
    "swin": "downsamples",
    "swinv2": "downsamples",
    "wav2vec2-bert": "its convolutions are not linear modules",
    "xlnet": "its attention writes through a parameter",
}


@pytest.mark.parametrize("name", [name for name in SPECIMENS if name not in ADD_MORE])
def test_layers_add_what_their_writers_write_and_nothing_else(name):
    """With all writers at zero a layer hands on its input, as it is or through the norms of its sums."""
    specimen = SPECIMENS[name]
    model = build(specimen.row)
    layers = inspect(model).layers
    for writer in (writer for layer in layers for writer in layer.writers):
        model.get_submodule(writer.name).register_forward_hook(silence)
    checked, wrong = set(), set()
    for layer in layers:
        block, norms = model.get_submodule(layer.name), []
        for module in block.modules():
            if "Norm" in type(module).__name__ and not any(True for _ in module.children()):
                module.register_forward_hook(lambda module, *_, norms=norms: norms.append(module))

        def compare(module, args, kwargs, output, name=layer.name, norms=norms):
            entered = args[0] if args else kwargs["hidden_states"]
            left = output[0] if isinstance(output, tuple) else output
            checked.add(name)
            if not torch.allclose(left, entered, atol=1e-6):
                for norm in dict.fromkeys(norms):
                    entered = norm(entered)
                if not torch.allclose(left, entered, atol=1e-5):
                    wrong.add(name)

        block.register_forward_hook(compare, with_kwargs=True)
    with torch.no_grad():
        model(**specimen.batch())
    assert checked == {layer.name for layer in layers}
    assert not wrong


def silence(module, args, output):
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "granitemoe", "llama4", "jetmoe"])
def test_lora_on_stacked_experts_has_an_a_and_a_b_an_expert(name):
    model = build(name)
    inventory = inspect(model)
    layer = inventory.layers[0]
    stacked = {weight.name: dict(model.named_parameters())[weight.name].shape for weight in layer.experts}
    assert {weight.name: weight.experts * weight.in_features * weight.out_features for weight in layer.experts} == {
        name: shape.numel() for name, shape in stacked.items()
    }
    plan = plan_with(model, {layer.name: ("lora-experts", 3)})
    assert set(stacked) <= set(places(layer, "lora-experts"))
    check_experts(apply(model, plan), layer, 3)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "jetmoe"])
def test_a_change_of_one_expert_is_of_rank_r(name):
    """In the weight's own layout, so that in and out are not mistaken for each other."""
    model = build(name)
    layer = inspect(model).layers[0]
    wrapped = apply(model, plan_with(model, {layer.name: ("lora-experts", 2)}))
    for weight in layer.experts:
        made = lora_layers(wrapped)[weight.name]
        torch.nn.init.normal_(made.lora_B["default"].weight)
        change = made.get_delta_weight("default")
        original = made.get_base_layer()
        held = getattr(original, weight.name.rpartition(".")[2])
        assert change.shape == held.shape
        assert {weight.in_features, weight.out_features} == set(held.shape[1:])
        for expert in change:
            assert torch.linalg.matrix_rank(expert) == 2


def test_a_prefix_of_other_heads_than_the_attention_has_says_so():
    specimen = SPECIMENS["llama"]
    model = build(specimen.row)
    layer = inspect(model).layers[0].name
    wrapped = apply(model, plan_with(model, {layer: ("prefix", 3)}))
    (side,) = side_modules(wrapped).values()
    assert isinstance(side, GatedPrefix)
    side.groups = 4
    with pytest.raises(ModelError, match=rf"prefix at {layer}\.self_attn was planned for 8 query heads of 8"):
        wrapped(**specimen.batch())


def test_experts_in_another_shape_are_refused():
    model = build("mixtral")
    plan = plan_with(model, {"model.layers.0": ("lora-experts", 2)})
    other = frozen(SPECIMENS["mixtral"].with_config(intermediate_size=40))
    before = snapshot(other)
    with pytest.raises(ModelError, match=r"mlp\.experts\.\w+ is of experts 4"):
        apply(other, plan)
    assert snapshot(other) == before
