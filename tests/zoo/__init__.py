"""The one table of tiny random models: ``zoo.build("llama")`` makes one, ``zoo.find("llama")`` tells of it.

A family that has its row in docs/families.md is written into the module of its kind; see the package ``families``.
What inspecting a model must find is written into `zoo.inventories`, by the model's name.
"""

from typing import Any

from attrs import evolve
from transformers import PreTrainedModel

from zoo import decoders, encoder_decoders, encoders, mixtures, speech, vision, wide, words
from zoo.inventories import EXPECTED
from zoo.tiny_model import TinyModel

#: Every model by its name, in the order of the table of families.
MODELS: dict[str, TinyModel] = {
    model.name: evolve(model, expected=EXPECTED.get(model.name))
    for module in (decoders, mixtures, encoders, encoder_decoders, vision, speech, wide, words)
    for model in module.MODELS
}


def find(name: str) -> TinyModel:
    """The model of this name."""
    return MODELS[name]


def build(name: str, **how: Any) -> PreTrainedModel:
    """A seeded model of this name; how: as `TinyModel.build` takes it."""
    return find(name).build(**how)
