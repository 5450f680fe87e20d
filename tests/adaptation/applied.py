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
