"""Models with prefixes, what they are given to read, and what is looked at."""

import itertools

import torch

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import side_modules
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with

LENGTH = 3

#: Two samples of seven tokens: which of them are there.
PADDINGS = {
    "left": [[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
    "full": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
    "none": None,
}


def prefixed(model, size=LENGTH):
    """The model with prefixes in every layer, their keys, values and gates at random."""
    wrapped = apply(model, plan_with(model, {layer.name: ("prefix", size) for layer in inspect(model).layers}))
    return randomised(wrapped)


def mixed(model, methods=("prefix", "adapter", "lora")):
    """The model with one method after the other, all of them trained a bit."""
    layers = [layer.name for layer in inspect(model).layers]
    chosen = {layer: (method, LENGTH) for layer, method in zip(layers, itertools.cycle(methods), strict=False)}
    return randomised(apply(model, plan_with(model, chosen)))


def randomised(wrapped, scale=0.5):
    """Gates, up-projections and B, which are zero at first, and all the rest of the adapters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return wrapped


def batch(family, padding="full"):
    """The family's inputs under a padding."""
    inputs = family.inputs()
    mask = PADDINGS[padding]
    if mask is None:
        inputs.pop("attention_mask", None)
    elif "attention_mask" in inputs:
        inputs["attention_mask"] = torch.tensor(mask)
    return inputs


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def real(values, padding):
    """Values [B, T, …] of the positions that are not padding."""
    mask = PADDINGS[padding]
    return values if mask is None else values[torch.tensor(mask).bool()]


def prefixes(wrapped):
    """Its prefixes by the attention that has them."""
    return {name: side for name, side in side_modules(wrapped).items() if side.child == "layerlens_prefix"}
