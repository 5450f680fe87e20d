"""Tiny random models of many families, and what can be done with each.

To add a family, write one model into the module of its kind in `zoo`, run ``pytest tests/families``, and write the
table anew as the failing test says.
"""

from transformers import PreTrainedModel

import zoo
from zoo.tiny_model import TinyModel

#: Every model that has a row, by the name of the row and in the order of the table.
SPECIMENS: dict[str, TinyModel] = {model.row: model for model in zoo.MODELS.values() if model.row}


def build(name: str) -> PreTrainedModel:
    """The model of a row, in which every weight, gate and scale matters; frozen."""
    return frozen(SPECIMENS[name])


def frozen(model: TinyModel) -> PreTrainedModel:
    """Such a model, of the table or not.

    It is frozen, as PEFT leaves it: torch.matmul chooses its kernel by whether a weight requires a gradient, and the
    last bit depends on that.
    """
    return model.build(shifts=0.05).requires_grad_(False)
