"""The inventory of a model: its structure as written down by hand, and as the model behaves."""

from collections import defaultdict

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn
from transformers.modeling_utils import AttentionInterface

import zoo
from layerlens_builtin.methods import adapter, lora, prefix
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from zoo.probing import add_adapter, odd_state, snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


class NoLinearConfig(transformers.PretrainedConfig):
    model_type = "no-linear"


class NoLinear(transformers.PreTrainedModel):
    """Repeated layers without a linear module, and a linear module that is not repeated."""

    config_class = NoLinearConfig

    def __init__(self, config):
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3) for _ in range(2))
        self.projection = nn.Linear(4, 4)


def run(model, family):
    with torch.no_grad():
        return model(**family.inputs())


def first(value):
    return value[0] if isinstance(value, tuple) else value


def record_calls(module, hidden="hidden_states"):
    """The inputs and outputs of all calls of a module."""
    calls = []

    def record(module, args, kwargs, output):
        calls.append((args[0] if args else kwargs[hidden], first(output)))

    module.register_forward_hook(record, with_kwargs=True)
    return calls


def record_attention(model, family, monkeypatch):
    """Shapes of queries, keys and values by the name of the attention module, as the model computes them."""
    names = {module: name for name, module in model.named_modules()}
    shapes = {}
    choose = AttentionInterface.get_interface

    def get_interface(interfaces, implementation, default):
        attend = choose(interfaces, implementation, default)

        def record(module, query, key, value, *args, **kwargs):
            # [batch, heads, positions, width]
            shapes[names[module]] = query.shape[1], (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3])
            return attend(module, query, key, value, *args, **kwargs)

        return record

    monkeypatch.setattr(AttentionInterface, "get_interface", get_interface)
    run(model, family)
    return shapes


def is_norm(module):
    return not any(True for _ in module.children()) and "Norm" in type(module).__name__


def test_the_structure_is_the_one_written_down(family):
    inventory = inspect(family.build())
    assert inventory.architecture == family.architecture
    assert inventory.layers == family.expected.layers
    assert {m.name: (m.in_features, m.out_features) for m in inventory.outside} == family.expected.outside
    assert all(module.layer is None and not module.writes_residual for module in inventory.outside)
    assert inventory.heads == family.expected.heads
    assert {skipped.name: skipped.reason for skipped in inventory.skipped} == family.expected.skipped


def test_shapes_are_those_of_the_weights_and_every_linear_module_is_accounted_for(any_family):
    model = any_family.build()
    inventory = inspect(model)
    found = {module.name: module for module in inventory.linears()}
    for name, module in found.items():
        weight = model.get_submodule(name).weight
        shape = (module.out_features, module.in_features)
        assert weight.shape == (shape if module.kind == "linear" else shape[::-1])
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | transformers.Conv1D)}
    assert linears == found.keys() | {skipped.name for skipped in inventory.skipped}
    assert len(linears) == len(found) + len(inventory.skipped)
    assert inventory.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_classifiers_heads_are_what_its_base_model_lacks(family):
    """And so what a checkpoint without the task does not hold; other models have none."""
    model = family.build()
    body = set(model.base_model.state_dict(prefix=f"{model.base_model_prefix}."))
    beside = {name for name in model.state_dict() if name not in body}
    heads = inspect(model).heads
    if "Classification" not in family.architecture:
        assert not heads
        return
    assert {n for n in model.state_dict() if any(n.startswith(f"{head.name}.") for head in heads)} == beside != set()
    for head in heads:
        assert head.parameters == sum(parameter.numel() for parameter in model.get_submodule(head.name).parameters())


def test_layers_are_in_the_order_of_the_forward_pass(any_family):
    model = any_family.build()
    inventory = inspect(model)
    order = []
    for layer in inventory.layers:
        model.get_submodule(layer.name).register_forward_pre_hook(lambda *_, name=layer.name: order.append(name))
    run(model, any_family)
    assert list(dict.fromkeys(order)) == [layer.name for layer in inventory.layers]


def test_layers_add_what_their_residual_writers_write_and_nothing_else(any_family):
    """With all writers at zero a layer hands on its input: as it is, or through the norms of its sums."""
    model = any_family.build()
    layers = inspect(model).layers
    silent = {module.name for layer in layers for module in layer.residual_writers}
    assert all(layer.residual_writers for layer in layers)
    for name in silent:
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: torch.zeros_like(output) if name in silent else None
        )
    calls, norms = {}, defaultdict(list)
    for layer in layers:
        block = model.get_submodule(layer.name)
        calls[layer.name] = record_calls(block)
        for module in block.modules():
            if is_norm(module):
                module.register_forward_hook(lambda module, *_, name=layer.name: norms[name].append(module))

    def handed_on(layer):
        """Whether every call of a layer gave its input, or after post-norms their output for it."""
        sums = list(dict.fromkeys(norms[layer.name])) if any_family.expected.norms == "post" else []
        assert len(sums) == (len(layer.residual_writers) if any_family.expected.norms == "post" else 0)
        same = []
        for entered, left in calls[layer.name]:
            for norm in sums:
                entered = norm(entered)
            same.append(torch.equal(left, entered))
        assert same
        return same

    with torch.no_grad():
        run(model, any_family)
        for layer in layers:
            assert all(handed_on(layer)), layer.name
        for layer in layers:
            for writer in layer.residual_writers:
                silent.remove(writer.name)
                calls[layer.name].clear()
                run(model, any_family)
                silent.add(writer.name)
                assert not any(handed_on(layer)), writer.name


def test_attentions_are_called_with_the_heads_and_widths_of_the_inventory(any_family, monkeypatch):
    model = any_family.build()
    inventory = inspect(model)
    expected = {
        a.name: (a.query_heads, (a.key_value_heads, a.key_dim), (a.key_value_heads, a.value_dim))
        for layer in inventory.layers
        for a in layer.attentions
    }
    assert all(layer.attentions for layer in inventory.layers)
    assert record_attention(model, any_family, monkeypatch) == (expected if any_family.expected.attends else {})


def test_inspecting_changes_nothing(any_family):
    model = odd_state(any_family.build())
    before = snapshot(model)
    assert inspect(model) == inspect(model)
    assert snapshot(model) == before


def test_the_fingerprint_knows_shapes_and_names_and_not_weights():
    family = zoo.find("llama")
    model = family.build()
    same = family.build()
    with torch.no_grad():
        same.model.layers[0].mlp.up_proj.weight.add_(1.0)
    assert inspect(same).fingerprint == inspect(model).fingerprint
    other = family.build()
    other.model.layers[2].mlp.up_proj = nn.Linear(32, 47)
    assert inspect(other).fingerprint != inspect(model).fingerprint
    renamed = family.build()
    renamed.model.layers[2].mlp.rise_proj = renamed.model.layers[2].mlp.up_proj
    del renamed.model.layers[2].mlp.up_proj
    assert inspect(renamed).fingerprint != inspect(model).fingerprint


def test_a_tied_language_model_head_is_no_target():
    model = zoo.build("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    inventory = inspect(model)
    assert "lm_head" not in {module.name for module in inventory.linears()}
    assert inventory.parameters == sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def test_stacked_experts_are_skipped_with_the_reason():
    inventory = inspect(zoo.build("mixtral"))
    reasons = {skipped.name: skipped.reason for skipped in inventory.skipped}
    assert reasons.pop("lm_head")
    assert reasons == {
        f"model.layers.{at}.mlp.experts": "experts stacked in one parameter, of the method lora-experts"
        for at in range(2)
    }
    assert [len(layer.modules) for layer in inventory.layers] == [4, 4]


def test_a_parallel_layer_and_its_experts_are_known():
    assert inspect(zoo.build("gpt-neox-wide")).parallel
    assert not inspect(zoo.build("llama-wide")).parallel
    experts = inspect(zoo.build("qwen3_moe-wide")).experts
    assert [(e.layer, e.count, e.active, e.parameters) for e in experts] == [
        (f"model.layers.{at}", 8, 2, 8 * 3 * 128 * 96) for at in range(8)
    ]


# --- what is refused


def test_a_model_without_a_linear_module_in_a_repeated_layer_is_refused():
    model = NoLinear(NoLinearConfig())
    before = snapshot(model)
    with pytest.raises(ModelError, match=r"NoLinear has no repeated layer with a linear module.*nothing to adapt"):
        inspect(model)
    assert snapshot(model) == before
    model.layers.append(nn.Sequential(nn.Linear(4, 5)))
    assert [module.name for module in inspect(model).modules] == ["layers.2.0"]


@pytest.mark.parametrize("how", ["wrapped", "wrapped in place", "injected", "added", "in a submodule"])
def test_a_model_that_carries_adapters_is_refused_until_they_are_unloaded(how):
    model = zoo.build("llama")
    config = LoraConfig(r=2, target_modules=["q_proj"])
    if how == "wrapped":
        refused = get_peft_model(model, config)
    elif how == "wrapped in place":
        get_peft_model(model, config)
        refused = model
    elif how == "injected":
        refused = inject_adapter_in_model(config, model)
    elif how == "added":
        add_adapter(model, config)
        refused = model
    else:
        inject_adapter_in_model(config, model.model.layers[1])
        refused = model
    with pytest.raises(ModelError, match="already carries PEFT adapters"):
        inspect(refused)


def test_after_unload_the_base_model_is_accepted():
    family = zoo.find("bert-classifier")
    expected = inspect(family.build())
    wrapped = get_peft_model(family.build(), LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    assert inspect(wrapped.unload()) == expected


# --- costs


def test_the_budget_of_a_rank_is_what_peft_takes_on_all_linear_layers(family):
    model = family.build()
    inventory = inspect(model)
    without_task = (
        {} if family.expected.peft_task else {"exclude_modules": [head.name for head in family.expected.heads] or None}
    )
    config = LoraConfig(r=8, target_modules="all-linear", task_type=family.expected.peft_task, **without_task)
    wrapped = get_peft_model(model, config)
    trainable, _ = wrapped.get_nb_trainable_parameters()
    in_heads = sum(p.numel() for n, p in wrapped.named_parameters() if p.requires_grad and ".modules_to_save." in n)
    assert in_heads == (sum(head.parameters for head in family.expected.heads) if family.expected.peft_task else 0)
    assert inventory.lora_parameters(8) == trainable - in_heads
    assert trainable - in_heads == sum(8 * (m.in_features + m.out_features) for m in inventory.linears()) > 0


def test_lora_costs_what_peft_makes_of_it(family):
    model = family.build()
    targets = [target for layer in inspect(model).layers for target in lora.METHOD.targets(layer)]
    shapes = {target.name: model.get_submodule(target.name).weight.shape for target in targets}
    wrapped = get_peft_model(model, LoraConfig(r=5, target_modules=[target.name for target in targets]))
    for target in targets:
        made = wrapped.get_base_model().get_submodule(target.name)
        weights = (made.lora_A["default"].weight, made.lora_B["default"].weight)
        assert target.parameters(5) == sum(weight.numel() for weight in weights) == 5 * sum(shapes[target.name])
        assert target.parameters(0) == 0
    assert [t.name for t in targets] == [module.name for layer in family.expected.layers for module in layer.modules]


def test_an_adapter_costs_two_projections_with_biases_on_each_residual_writer(family):
    model = family.build()
    for layer in inspect(model).layers:
        targets = adapter.METHOD.targets(layer)
        assert [target.name for target in targets] == [module.name for module in layer.residual_writers]
        for target in targets:
            weight = model.get_submodule(target.name).bias
            width = len(weight) if weight is not None else model.get_submodule(target.name).weight.shape[0]
            side = nn.Sequential(nn.Linear(width, 6), nn.GELU(), nn.Linear(6, width))
            assert target.parameters(6) == sum(p.numel() for p in side.parameters()) == 2 * 6 * width + width + 6
            assert target.parameters(0) == 0


def test_a_prefix_costs_keys_and_values_for_their_heads_and_a_gate_a_query_head(any_family, monkeypatch):
    if not any_family.expected.attends:
        pytest.skip("its attention does not go through the attention interface, so no prefix can be attached")
    model = any_family.build()
    layers = inspect(model).layers
    shapes = record_attention(model, any_family, monkeypatch)
    targets = [target for layer in layers for target in prefix.METHOD.targets(layer)]
    assert {target.name for target in targets} == shapes.keys()
    for target in targets:
        query_heads, key, value = shapes[target.name]
        stored = torch.empty(8, *key).numel() + torch.empty(8, *value).numel() + torch.empty(query_heads).numel()
        assert target.parameters(8) == stored
        assert target.parameters(0) == 0


@pytest.mark.parametrize(
    ("name", "layer", "rank_3", "width_4", "length_8"),
    [
        # 3·(64+48+48+64+80+80+80);  2 writers × (2·4·32 + 32 + 4);  8·2·(8+8) + 4
        ("llama", 0, 3 * 464, 2 * 292, 8 * 2 * 16 + 4),
        # 3·(96+64+64+96+80+80+80);  the same;  8·2·(16+16) + 4: heads of 16, not of 32/4
        ("qwen3", 0, 3 * 560, 2 * 292, 8 * 2 * 32 + 4),
        # one key-value head of 16
        ("gemma", 0, 3 * 528, 2 * 292, 8 * 1 * 32 + 4),
        ("bert", 2, 3 * (4 * 64 + 2 * 80), 2 * 292, 8 * 4 * 16 + 4),
        ("gpt2", 0, 3 * (128 + 64 + 160 + 160), 2 * 292, 8 * 4 * 16 + 4),
        ("t5", 0, 3 * (4 * 96 + 2 * 80), 2 * 292, 8 * 4 * 32 + 4),
        # the decoder attends and writes twice before its feed-forward does
        ("t5", 3, 3 * (8 * 96 + 2 * 80), 3 * 292, 2 * (8 * 4 * 32 + 4)),
    ],
)
def test_costs_by_hand(name, layer, rank_3, width_4, length_8):
    layer = inspect(zoo.build(name)).layers[layer]
    assert sum(target.parameters(3) for target in lora.METHOD.targets(layer)) == rank_3
    assert sum(target.parameters(4) for target in adapter.METHOD.targets(layer)) == width_4
    assert sum(target.parameters(8) for target in prefix.METHOD.targets(layer)) == length_8


def test_a_gate_of_one_output_does_not_hold_its_layer_at_rank_one():
    (layer,) = inspect(zoo.find("qwen2_moe").with_config(num_hidden_layers=1).build()).layers
    assert min(module.out_features for module in layer.modules) == 1
    assert lora.METHOD.largest(layer) == 32
