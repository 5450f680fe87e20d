"""Models to which a plan was applied: which, what they were given, and how a plan is refused."""

import pytest

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers
from zoo.plans import plan_with
from zoo.probing import perturb, snapshot

#: Every kind of layer, head and name that PEFT has to find.
APPLIED = (
    "llama",
    "bert-classifier",
    "roberta-classifier",
    "distilbert-classifier",
    "gpt2",
    "t5",
    "vit",
    "albert-classifier",
)

#: Loads base models and adapters as a user's own program would, without LayerLens.
PLAIN_LOADER = """
import json, sys
import torch, transformers
from pathlib import Path
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

assert not any(name.startswith("layerlens") for name in sys.modules)
for run in map(Path, sys.argv[1:]):
    architecture = json.loads((run / "base" / "config.json").read_text())["architectures"][0]
    base = getattr(transformers, architecture).from_pretrained(run / "base")
    model = PeftModel.from_pretrained(base, run / "adapter").eval()
    with torch.no_grad():
        save_file({"logits": model(**load_file(run / "inputs.safetensors")).logits}, run / "logits.safetensors")
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    made = {n: [m.r["default"], m.scaling["default"]] for n, m in layers.items()}
    (run / "made.json").write_text(json.dumps(made))
assert not any(name.startswith("layerlens") for name in sys.modules)
"""


def ranks_of(model):
    return {name: layer.r["default"] for name, layer in lora_layers(model).items()}


def scales_of(model):
    return {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}


def refused(model, plan, error, message):
    """The model is left as it was."""
    before = snapshot(model)
    with pytest.raises(error, match=message):
        apply(model, plan)
    assert snapshot(model) == before


def lora_only():
    """A Llama with LoRA in two layers, moved away from the base model."""
    model = zoo.build("llama")
    wrapped = apply(model, plan_with(model, {"model.layers.0": ("lora", 3), "model.layers.2": ("lora", 2)})).eval()
    perturb(wrapped)
    return wrapped
