"""The tuner on PEFT's base classes: merging, several adapters, refusals, plain PEFT's traps."""

import copy
import json

import attrs
import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, side_modules
from layerlens_core.adaptation.check import check_gradients
from layerlens_core.adaptation.config import peft_config
from layerlens_core.adaptation.initialisation import ROW_NORM, align
from layerlens_core.adaptation.load import load
from layerlens_core.errors import FileError, ModelError, PlanError, PluginError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from probing import logits, perturb

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def family(named_family):
    return named_family("llama")


@pytest.fixture
def mixed(family, plan_with):
    """A model with LoRA, an adapter and a prefix, moved away from the base model."""
    model = family.build()
    names = [layer.name for layer in inspect(model).layers]
    plan = plan_with(model, {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)})
    wrapped = apply(model, plan).eval()
    perturb(wrapped)
    return wrapped


# --- merging


def test_a_plan_of_lora_alone_merges_into_the_base_model(family, plan_with):
    model = family.build()
    wrapped = apply(model, plan_with(model, {"model.layers.0": ("lora", 3), "model.layers.2": ("lora", 2)})).eval()
    perturb(wrapped)
    expected = logits(wrapped, family)
    wrapped.merge_adapter()
    torch.testing.assert_close(logits(wrapped, family), expected)
    wrapped.unmerge_adapter()
    merged = wrapped.merge_and_unload()
    assert type(merged) is transformers.LlamaForCausalLM
    assert not any("lora" in name for name, _ in merged.named_modules())
    torch.testing.assert_close(logits(merged, family), expected)


@pytest.mark.parametrize("asked", ["merge_and_unload", "merge_adapter"])
def test_a_mixed_plan_cannot_merge_as_a_whole_and_is_left_as_it_was(mixed, family, asked):
    expected = logits(mixed, family)
    with pytest.raises(PlanError, match=r"plans of LoRA alone, but this one has adapter, prefix.*merge_lora"):
        getattr(mixed, asked)()
    assert torch.equal(logits(mixed, family), expected)
    assert not any(layer.merged for layer in lora_layers(mixed).values())


def test_the_lora_part_of_a_mixed_plan_merges_and_the_rest_is_saved_for_the_merged_base(mixed, family, tmp_path):
    expected = logits(mixed, family)
    mixed.merge_lora()
    assert not lora_layers(mixed)
    assert len(side_modules(mixed)) == 3
    torch.testing.assert_close(logits(mixed, family), expected)
    expected = logits(mixed, family)
    mixed.save_pretrained(tmp_path / "adapter")
    base = mixed.unload()
    base.save_pretrained(tmp_path / "base")
    again = load(transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    assert torch.equal(logits(again, family), expected)


# --- what PEFT's own functions do with it


def test_unloading_a_trained_classifier_gives_back_its_own_head(named_family, plan_with):
    family = named_family("bert-classifier")
    model = family.build()
    before = logits(model, family)
    wrapped = apply(model, plan_with(model, {"bert.encoder.layer.0": ("adapter", 3)})).eval()
    perturb(wrapped)
    assert not torch.allclose(logits(wrapped, family), before)
    assert torch.equal(logits(wrapped.unload(), family), before)


def test_two_plans_take_turns_on_one_model(mixed, family, plan_with):
    base = family.build()
    names = [layer.name for layer in inspect(base).layers]
    other = plan_with(base, {names[0]: ("adapter", 2), names[1]: ("adapter", 6), names[2]: ("lora", 1)})
    first = logits(mixed, family)
    mixed.add_adapter("other", peft_config(other, inspect(base)))
    assert torch.equal(logits(mixed, family), first)
    mixed.set_adapter("other")
    alone = apply(family.build(), other).eval()
    assert torch.equal(logits(mixed, family), logits(alone, family))
    perturb(mixed)
    second = logits(mixed, family)
    assert not torch.allclose(second, first)
    mixed.set_adapter("default")
    assert torch.equal(logits(mixed, family), first)
    mixed.delete_adapter("other")
    assert torch.equal(logits(mixed, family), first)
    assert not [name for name, _ in mixed.named_parameters() if ".other" in name]


def test_disabling_nests_and_status_is_told(mixed, family):
    tuned = logits(mixed, family)
    with mixed.disable_adapter():
        assert torch.equal(logits(mixed, family), logits(family.build(), family))
    assert torch.equal(logits(mixed, family), tuned)
    status = mixed.get_model_status()
    assert status.enabled is True
    assert status.trainable_params == sum(p.numel() for p in mixed.parameters() if p.requires_grad)
    assert len(mixed.get_layer_status()) == len(lora_layers(mixed)) + len(side_modules(mixed))


def test_a_trainer_can_be_given_the_configuration_instead_of_the_model(family, plan_with):
    model = family.build()
    plan = plan_with(model, {"model.layers.0": ("prefix", 2), "model.layers.1": ("lora", 2)})
    by_hand = get_peft_model(family.build(), peft_config(plan, inspect(model)))
    assert sum(p.numel() for p in by_hand.parameters() if p.requires_grad) == plan.parameters


def test_low_memory_loading_gives_the_same(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(family.build(), tmp_path, low_cpu_mem_usage=True).eval()
    assert torch.equal(logits(loaded, family), logits(mixed, family))


@pytest.mark.parametrize("name", ["llama", "bert-classifier", "t5"])
def test_in_bfloat16_it_starts_as_the_model_and_trains_in_float32(named_family, plan_with, name):
    family = named_family(name)
    model = family.build().to(torch.bfloat16)
    before = logits(model, family)
    names = [layer.name for layer in inspect(model).layers]
    plan = plan_with(model, {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)})
    wrapped = apply(model, plan)
    assert torch.equal(logits(wrapped, family), before)
    adapters = [p for n, p in wrapped.named_parameters() if p.requires_grad and "modules_to_save" not in n]
    assert {p.dtype for p in adapters} == {torch.float32}
    perturb(wrapped)
    after = wrapped(**family.inputs(labels=True))
    assert after.logits.dtype == torch.bfloat16
    after.loss.backward()
    assert all(p.grad is not None for p in adapters)


# --- the start


def test_rows_of_a_start_along_the_directions_at_the_usual_norm(family, plan_with):
    model = family.build()
    before = logits(model, family)
    wrapped = apply(model, plan_with(model, {"model.layers.1": ("lora", 4)}))
    drawn = {name: layer.lora_A["default"].weight.clone() for name, layer in lora_layers(wrapped).items()}
    for rows in drawn.values():
        # Uniform entries of variance 1/(3·in): the norm that directions are given is that of the usual rows.
        assert float(rows.detach().norm(dim=1).mean()) == pytest.approx(ROW_NORM, rel=0.2)
    generator = torch.Generator().manual_seed(0)
    directions = {
        name: torch.linalg.qr(torch.randn(rows.shape[1], 3, generator=generator))[0].T for name, rows in drawn.items()
    }
    align(wrapped, directions)
    for name, layer in lora_layers(wrapped).items():
        weight = layer.lora_A["default"].weight
        torch.testing.assert_close(weight[:3], ROW_NORM * directions[name])
        assert torch.equal(weight[3], drawn[name][3])
        assert not layer.lora_B["default"].weight.any()
    assert torch.equal(logits(wrapped, family), before)


# --- gradients, checked on request


def test_every_planned_parameter_gets_a_gradient_and_the_check_leaves_no_trace(mixed, family):
    state = {name: value.clone() for name, value in mixed.state_dict().items()}
    random = torch.get_rng_state()
    check_gradients(mixed, family.inputs(labels=True))
    assert all(torch.equal(value, state[name]) for name, value in mixed.state_dict().items())
    assert all(parameter.grad is None for parameter in mixed.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_module_that_is_never_called_is_found(family, plan_with):
    class Unused(transformers.LlamaForCausalLM):
        def __init__(self, config):
            super().__init__(config)
            self.model.layers[1].spare = nn.Linear(32, 8)

    model = Unused(family.build().config)
    wrapped = apply(model, plan_with(model, {"model.layers.1": ("lora", 2)}))
    with pytest.raises(ModelError, match=r"2 of 16 trainable parameters get no gradient.*spare\.lora_A"):
        check_gradients(wrapped, family.inputs(labels=True))


# --- what is refused, before anything is changed


def edited(folder, change):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def refused(model, folder, snapshot, error, message):
    before = snapshot(model)
    with pytest.raises(error, match=message):
        load(model, folder)
    assert snapshot(model) == before


def test_an_adapter_of_another_model_is_refused(mixed, named_family, snapshot, tmp_path):
    mixed.save_pretrained(tmp_path)
    refused(named_family("gpt2").build(), tmp_path, snapshot, ModelError, r"on model\.layers\.0.*which this GPT2LMHead")
    refused(
        named_family("qwen3").build(), tmp_path, snapshot, ModelError,
        r"the plan was made for model\.layers\.0\.self_attn\.k_proj of 32→16, but here it is 32→32",
    )  # fmt: skip


def test_an_adapter_of_a_method_that_nothing_provides_is_refused(mixed, family, snapshot, tmp_path):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, lambda c: [e.update(method="vera") for e in c["entries"].values() if e["method"] == "prefix"])
    refused(family.build(), tmp_path, snapshot, PluginError, "no method is named 'vera'")


def test_an_adapter_of_another_version_is_refused(mixed, family, snapshot, tmp_path):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, lambda config: config.update(version=2))
    refused(family.build(), tmp_path, snapshot, FileError, "of version 2; this LayerLens reads version 1")


def test_an_adapter_on_a_model_that_carries_one_is_refused(mixed, tmp_path):
    mixed.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="already carries PEFT adapters"):
        load(mixed.get_base_model(), tmp_path)


def test_a_prefix_outside_the_attention_interface_is_refused_by_name(named_family, plan_with, snapshot):
    model = named_family("bloom").build()
    assert not default().load("method", "prefix").targets(inspect(model).layers[0])
    llama = named_family("llama").build()
    plan = plan_with(llama, {"model.layers.0": ("prefix", 2)})
    config = peft_config(plan, inspect(llama))
    (entry,) = config.entries.values()
    config.entries = {"transformer.h.0.self_attention": entry}
    before = snapshot(model)
    with pytest.raises(
        ModelError, match=r"BloomAttention \(transformer\.h\.0\.self_attention\) does not leave its attention"
    ):
        get_peft_model(model, config)
    assert snapshot(model) == before


def test_a_copy_of_the_model_runs_its_own_parameters(mixed, family):
    clone = copy.deepcopy(mixed)
    expected = logits(mixed, family)
    perturb(clone, seed=9)
    assert torch.equal(logits(mixed, family), expected)
    changed = logits(clone, family)
    for side in side_modules(clone).values():
        assert side.host in set(clone.modules())
    assert not torch.allclose(changed, expected)


# --- several adapters, and what PEFT does with them


def lora_only(family, plan_with):
    model = family.build()
    wrapped = apply(model, plan_with(model, {"model.layers.0": ("lora", 3), "model.layers.2": ("lora", 2)})).eval()
    perturb(wrapped)
    return wrapped


def test_a_second_adapter_of_other_methods_is_built_whole(family, plan_with):
    wrapped = lora_only(family, plan_with)
    base = family.build()
    plan = plan_with(base, {"model.layers.0": ("prefix", 3), "model.layers.1": ("adapter", 2)})
    wrapped.add_adapter("two", peft_config(plan, inspect(base)))
    wrapped.set_adapter("two")
    assert torch.equal(logits(wrapped, family), logits(base, family))
    perturb(wrapped)
    assert not torch.allclose(logits(wrapped, family), logits(base, family))


def test_a_second_adapter_that_does_not_fit_is_refused_and_leaves_nothing(family, plan_with, named_family):
    wrapped = lora_only(family, plan_with)
    before, names = logits(wrapped, family), [name for name, _ in wrapped.named_modules()]
    other = named_family("qwen3").build()
    config = peft_config(plan_with(other, {"model.layers.0": ("lora", 2)}), inspect(other))
    with pytest.raises(ModelError, match=r"q_proj of 32→64, but here it is 32→32"):
        wrapped.add_adapter("two", config)
    assert list(wrapped.peft_config) == ["default"]
    assert [name for name, _ in wrapped.named_modules()] == names
    assert torch.equal(logits(wrapped, family), before)


def test_names_of_an_adapters_parameters_hold_its_own_as_a_part(mixed):
    # Preference trainers copy an adapter's parameters to a reference by this part of their names.
    trained = [name for name, parameter in mixed.named_parameters() if parameter.requires_grad]
    assert [name for name in trained if ".default." not in name] == []


def test_weighted_sums_and_adapters_by_row_are_refused(mixed, family, plan_with):
    with pytest.raises(PlanError, match="add_weighted_adapter is for adapters of one rank"):
        lora_only(family, plan_with).add_weighted_adapter(["default"], [1.0], "sum")
    with pytest.raises(PlanError, match="adapter_names is for plans of LoRA alone"):
        mixed(**family.inputs(), adapter_names=["__base__", "default"])
    wrapped = lora_only(family, plan_with)
    by_row = wrapped(**family.inputs(), adapter_names=["__base__", "default"]).logits
    torch.testing.assert_close(by_row[0], logits(family.build(), family)[0])
    torch.testing.assert_close(by_row[1], logits(wrapped, family)[1])


def test_merging_the_lora_part_is_refused_where_it_would_lose_something(mixed, family, plan_with):
    with pytest.raises(PlanError, match="nothing would remain; use merge_and_unload"):
        lora_only(family, plan_with).merge_lora()
    base = family.build()
    mixed.add_adapter("two", peft_config(plan_with(base, {"model.layers.0": ("lora", 2)}), inspect(base)))
    with pytest.raises(PlanError, match="there is LoRA in: default, two"):
        mixed.merge_lora()


def test_a_merge_that_fails_leaves_nothing_merged(mixed, family):
    expected = logits(mixed, family)
    last = list(lora_layers(mixed).values())[-1].lora_B["default"].weight
    with torch.no_grad():
        last[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaNs detected"):
        mixed.merge_lora(safe_merge=True)
    with torch.no_grad():
        last[0, 0] = 0.0
    assert len(lora_layers(mixed)) == 7
    with mixed.disable_adapter():
        torch.testing.assert_close(logits(mixed, family), logits(family.build(), family))
    assert not torch.allclose(logits(mixed, family), expected * 0)


def test_settings_of_a_configuration_are_saved_with_it_and_those_that_change_scales_are_refused(
    family, plan_with, tmp_path
):  # fmt: skip
    model = family.build()
    config = peft_config(plan_with(model, {"model.layers.0": ("lora", 2)}), inspect(model))
    config.lora_dropout = 0.25
    get_peft_model(model, config).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == 0.25
    config.use_rslora = True
    with pytest.raises(PlanError, match="use_rslora, use_dora and trained biases do not go with them"):
        get_peft_model(family.build(), config)


def test_transformers_loads_a_mixed_adapter_by_itself(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    model = family.build()
    model.load_adapter(str(tmp_path))
    assert torch.equal(logits(model, family), logits(mixed, family))


# --- saved adapters that do not fit, or are damaged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("peft_type"), "an adapter of type None"),
        (lambda c: c.update(peft_type="FOO"), "an adapter of type FOO; LayerLens loads LORA and LAYERLENS"),
        (lambda c: c.pop("version"), "of version None; this LayerLens reads version 1"),
        (lambda c: c.pop("entries"), "it has no entries"),
        (lambda c: next(iter(c["entries"].values())).pop("shape"), r"the entry of model\.layers.* is not a method"),
        (lambda c: next(iter(c["entries"].values())).update(size="3"), r"the entry of model\.layers.* is not a method"),
        (lambda c: next(iter(c["entries"].values())).update(size=0), r"the entry of model\.layers.* is not a method"),
    ],
)
def test_a_damaged_configuration_is_refused(mixed, family, snapshot, tmp_path, change, message):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, change)
    refused(family.build(), tmp_path, snapshot, FileError, message)


def test_files_that_are_missing_or_damaged_are_named(mixed, family, snapshot, tmp_path):
    model, folder = family.build(), tmp_path / "adapter"
    refused(model, folder, snapshot, FileError, "is no directory, and no adapter of the hub")
    folder.mkdir()
    refused(model, folder, snapshot, FileError, "holds no adapter_config.json, so it is no adapter")
    mixed.save_pretrained(folder / "style")
    refused(model, folder, snapshot, FileError, r"; there is one in .*style")
    weights = folder / "style" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    refused(model, folder / "style", snapshot, FileError, r"adapter_model\.safetensors is damaged")
    weights.unlink()
    refused(model, folder / "style", snapshot, FileError, "so the adapter has no weights")
    (folder / "style" / "adapter_config.json").write_text("{")
    refused(model, folder / "style", snapshot, FileError, r"adapter_config\.json is damaged")


def test_tensors_that_are_not_the_models_are_refused(mixed, family, plan_with, snapshot, tmp_path):
    mixed.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if "prefix" not in name}, path)
    refused(family.build(), tmp_path, snapshot, ModelError, r"lacks .*lora_prefix.* \(3 tensors are missing\)")
    wrapped = lora_only(family, plan_with)
    wrapped.save_pretrained(tmp_path / "lora")
    shallow = attrs.evolve(family, config={**family.config, "num_hidden_layers": 2}).build()
    refused(shallow, tmp_path / "lora", snapshot, ModelError, r"layers\.2.* for which this model has no place")
