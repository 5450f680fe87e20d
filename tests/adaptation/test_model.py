"""The tuner on PEFT's base classes: merging, several adapters, copies, and what PEFT's own functions do with it."""

import copy
import json

import pytest
import torch
import transformers
from peft import get_peft_model

import zoo
from adaptation.applied import lora_only
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, side_modules
from layerlens_core.adaptation.config import peft_config
from layerlens_core.adaptation.load import load
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.registry import default
from zoo.plans import plan_with
from zoo.probing import logits, perturb, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


# --- merging


def test_a_plan_of_lora_alone_merges_into_the_base_model(family):
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


def test_unloading_a_trained_classifier_gives_back_its_own_head():
    family = zoo.find("bert-classifier")
    model = family.build()
    before = logits(model, family)
    wrapped = apply(model, plan_with(model, {"bert.encoder.layer.0": ("adapter", 3)})).eval()
    perturb(wrapped)
    assert not torch.allclose(logits(wrapped, family), before)
    assert torch.equal(logits(wrapped.unload(), family), before)


def test_two_plans_take_turns_on_one_model(mixed, family):
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


def test_a_trainer_can_be_given_the_configuration_instead_of_the_model(family):
    model = family.build()
    plan = plan_with(model, {"model.layers.0": ("prefix", 2), "model.layers.1": ("lora", 2)})
    by_hand = get_peft_model(family.build(), peft_config(plan, inspect(model)))
    assert sum(p.numel() for p in by_hand.parameters() if p.requires_grad) == plan.parameters


@pytest.mark.parametrize("name", ["llama", "bert-classifier", "t5"])
def test_in_bfloat16_it_starts_as_the_model_and_trains_in_float32(name):
    family = zoo.find(name)
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


def test_a_prefix_outside_the_attention_interface_is_refused_by_name():
    model = zoo.build("bloom")
    assert not default().load("method", "prefix").targets(inspect(model).layers[0])
    llama = zoo.build("llama")
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


def test_a_second_adapter_of_other_methods_is_built_whole(family):
    wrapped = lora_only()
    base = family.build()
    plan = plan_with(base, {"model.layers.0": ("prefix", 3), "model.layers.1": ("adapter", 2)})
    wrapped.add_adapter("two", peft_config(plan, inspect(base)))
    wrapped.set_adapter("two")
    assert torch.equal(logits(wrapped, family), logits(base, family))
    perturb(wrapped)
    assert not torch.allclose(logits(wrapped, family), logits(base, family))


def test_a_second_adapter_that_does_not_fit_is_refused_and_leaves_nothing(family):
    wrapped = lora_only()
    before, names = logits(wrapped, family), [name for name, _ in wrapped.named_modules()]
    other = zoo.build("qwen3")
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


def test_weighted_sums_and_adapters_by_row_are_refused(mixed, family):
    with pytest.raises(PlanError, match="add_weighted_adapter is for adapters of one rank"):
        lora_only().add_weighted_adapter(["default"], [1.0], "sum")
    with pytest.raises(PlanError, match="adapter_names is for plans of LoRA alone"):
        mixed(**family.inputs(), adapter_names=["__base__", "default"])
    wrapped = lora_only()
    by_row = wrapped(**family.inputs(), adapter_names=["__base__", "default"]).logits
    torch.testing.assert_close(by_row[0], logits(family.build(), family)[0])
    torch.testing.assert_close(by_row[1], logits(wrapped, family)[1])


def test_merging_the_lora_part_is_refused_where_it_would_lose_something(mixed, family):
    with pytest.raises(PlanError, match="nothing would remain; use merge_and_unload"):
        lora_only().merge_lora()
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
    family, tmp_path
):  # fmt: skip
    model = family.build()
    config = peft_config(plan_with(model, {"model.layers.0": ("lora", 2)}), inspect(model))
    config.lora_dropout = 0.25
    get_peft_model(model, config).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == 0.25
    config.use_rslora = True
    with pytest.raises(PlanError, match="use_rslora, use_dora and trained biases do not go with them"):
        get_peft_model(family.build(), config)
