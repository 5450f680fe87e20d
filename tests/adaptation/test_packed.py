"""Plans are applied to packed models as PEFT does it: they train, and are saved and loaded."""

import sys
from types import ModuleType

import pytest
import torch
import transformers

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.check import check_gradients
from layerlens_core.adaptation.load import load
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from zoo.packed import PACKED, BaseQuantLinear, HQQLinear, packed
from zoo.plans import plan_with

LORA = {"model.layers.0": ("lora", 3), "model.layers.2": ("lora", 2)}
MIXED = {"model.layers.0": ("lora", 3), "model.layers.1": ("adapter", 4), "model.layers.2": ("prefix", 2)}


@pytest.fixture
def libraries(monkeypatch):
    """What PEFT looks for before it adapts classes of GPTQModel and HQQ."""
    for name in ("gptqmodel", "gptqmodel.nn_modules", "gptqmodel.nn_modules.qlinear"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    vars(sys.modules["gptqmodel.nn_modules.qlinear"])["BaseQuantLinear"] = BaseQuantLinear
    for module in ("gptq", "awq"):
        monkeypatch.setattr(f"peft.tuners.lora.{module}.is_gptqmodel_available", lambda: True)
    monkeypatch.setattr("peft.utils.other.is_gptqmodel_available", lambda: True)


def trained_and_loaded(make, methods, tmp_path):
    """A plan on a packed model starts as the identity, trains all that it plans, and loads on a fresh one."""
    model = make().train()
    plan = plan_with(model, methods)
    batch = zoo.find("llama").inputs()
    batch["labels"] = batch["input_ids"]
    with torch.no_grad():
        before = model(**batch).logits
    tuned = apply(model, plan).train()
    with torch.no_grad():
        assert torch.equal(tuned(**batch).logits, before)
    trainable = [p for p in tuned.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == plan.parameters
    check_gradients(tuned, batch)
    optimizer, losses = torch.optim.AdamW(trainable, lr=1e-2), []
    for _ in range(8):
        loss = tuned(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    tuned.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        after = tuned(**batch).logits
        assert torch.equal(load(make(), tmp_path / "adapter").train()(**batch).logits, after)


@pytest.mark.parametrize("methods", [LORA, MIXED], ids=["lora", "mixed"])
@pytest.mark.parametrize("pack", ["gptq", "tensor"])
def test_plans_train_on_packed_weights(pack, methods, tmp_path, libraries):
    trained_and_loaded(lambda: packed(zoo.build("llama"), PACKED[pack]), methods, tmp_path)


@pytest.mark.parametrize("methods", [LORA, MIXED], ids=["lora", "mixed"])
@pytest.mark.parametrize("library", ["4-bit", "8-bit", "torchao"])
def test_plans_train_on_models_of_libraries(library, methods, tmp_path):
    package = "torchao" if library == "torchao" else "bitsandbytes"
    pytest.importorskip(package, reason=f"{package} is not installed")
    if library == "torchao":
        config = transformers.TorchAoConfig(pytest.importorskip("torchao.quantization").Int8WeightOnlyConfig())
    else:
        config = transformers.BitsAndBytesConfig(load_in_4bit=library == "4-bit", load_in_8bit=library == "8-bit")
    zoo.find("llama").with_config(hidden_size=64, intermediate_size=128).build().save_pretrained(tmp_path / "model")

    def make():
        kind = transformers.LlamaForCausalLM
        return kind.from_pretrained(tmp_path / "model", dtype=torch.float32, quantization_config=config)

    trained_and_loaded(make, methods, tmp_path)


def test_nothing_is_attached_where_it_would_not_be_saved():
    model = packed(zoo.build("llama"), HQQLinear, only="o_proj")
    inventory = inspect(model)
    assert [w.name for w in inventory.layers[0].writers] == [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.self_attn",
    ]
    plan = plan_with(zoo.build("llama"), {"model.layers.0": ("adapter", 4)})
    with pytest.raises(ModelError, match=r"has no model\.layers\.0|differ|saves its own weights alone"):
        apply(model, plan)


def test_a_class_whose_library_is_missing_is_refused_by_name():
    model = packed(zoo.build("llama"), BaseQuantLinear)
    with pytest.raises(
        ModelError, match=r"PEFT does not adapt the packed weight of model\.layers\.0\.\S+ \(BaseQuantLinear\)"
    ):
        apply(model, plan_with(model, LORA))
    assert all(type(m).__module__.partition(".")[0] != "peft" for m in model.modules())
