"""A saved adapter is loaded as it was, or refused before anything is changed."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import zoo
from adaptation.applied import lora_only
from layerlens_core.adaptation.load import load
from layerlens_core.errors import FileError, ModelError, PluginError
from layerlens_core.files.atomic import DONE
from zoo.probing import logits, snapshot

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_low_memory_loading_gives_the_same(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(family.build(), tmp_path, low_cpu_mem_usage=True).eval()
    assert torch.equal(logits(loaded, family), logits(mixed, family))


def test_an_adapter_whose_writing_was_killed_after_it_was_decided_is_finished(mixed, family, tmp_path):
    out = tmp_path / "out"
    mixed.save_pretrained(out / DONE)
    loaded = load(family.build(), out).eval()
    assert torch.equal(logits(loaded, family), logits(mixed, family))
    assert not (out / DONE).exists()


# --- what is refused, before anything is changed


def edited(folder, change):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def refused(model, folder, error, message):
    before = snapshot(model)
    with pytest.raises(error, match=message):
        load(model, folder)
    assert snapshot(model) == before


def test_an_adapter_of_another_model_is_refused(mixed, tmp_path):
    mixed.save_pretrained(tmp_path)
    refused(zoo.build("gpt2"), tmp_path, ModelError, r"on model\.layers\.0.*which this GPT2LMHead")
    refused(
        zoo.build("qwen3"), tmp_path, ModelError,
        r"the plan was made for model\.layers\.0\.self_attn\.k_proj of 32→16, but here it is 32→32",
    )  # fmt: skip


def test_an_adapter_of_a_method_that_nothing_provides_is_refused(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, lambda c: [e.update(method="vera") for e in c["entries"].values() if e["method"] == "prefix"])
    refused(family.build(), tmp_path, PluginError, "no method is named 'vera'")
    edited(tmp_path, lambda c: [e.update(method="v" * 5000) for e in c["entries"].values() if e["method"] == "vera"])
    refused(family.build(), tmp_path, PluginError, "no method is named 'v{100}'; there are")


def test_an_adapter_of_another_version_is_refused(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, lambda config: config.update(version=2))
    refused(family.build(), tmp_path, FileError, "of version 2; this LayerLens reads version 1")


def test_an_adapter_on_a_model_that_carries_one_is_refused(mixed, tmp_path):
    mixed.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="already carries PEFT adapters"):
        load(mixed.get_base_model(), tmp_path)


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
def test_a_damaged_configuration_is_refused(mixed, family, tmp_path, change, message):
    mixed.save_pretrained(tmp_path)
    edited(tmp_path, change)
    refused(family.build(), tmp_path, FileError, message)


def test_files_that_are_missing_or_damaged_are_named(mixed, family, tmp_path):
    model, folder = family.build(), tmp_path / "adapter"
    refused(model, folder, FileError, "is no directory, and no adapter of the hub")
    folder.mkdir()
    refused(model, folder, FileError, "holds no adapter_config.json, so it is no adapter")
    mixed.save_pretrained(folder / "style")
    refused(model, folder, FileError, r"; there is one in .*style")
    weights = folder / "style" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    refused(model, folder / "style", FileError, r"adapter_model\.safetensors is damaged")
    weights.unlink()
    refused(model, folder / "style", FileError, "so the adapter has no weights")
    (folder / "style" / "adapter_config.json").write_text("{")
    refused(model, folder / "style", FileError, r"adapter_config\.json is damaged")


def test_tensors_that_are_not_the_models_are_refused(mixed, family, tmp_path):
    mixed.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if "prefix" not in name}, path)
    refused(family.build(), tmp_path, FileError, r"lacks tensors of .*layerlens_prefix of 0 values, where its entry is")
    wrapped = lora_only()
    wrapped.save_pretrained(tmp_path / "lora")
    shallow = family.with_config(num_hidden_layers=2).build()
    refused(shallow, tmp_path / "lora", ModelError, r"layers\.2.* for which this model has no place")
