"""What transformers asks a model's class for, which not every class answers."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def input_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """What the model embeds its inputs with, or None where the class has no such module, or does not say."""
    try:
        embeddings = model.get_input_embeddings()
    except (NotImplementedError, AttributeError, TypeError):
        return None
    return embeddings if isinstance(embeddings, nn.Module) else None


def output_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """The language-model head, or None where the class has none, or does not say."""
    try:
        output = model.get_output_embeddings()
    except (NotImplementedError, AttributeError, TypeError):
        return None
    return output if isinstance(output, nn.Module) else None


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the part that reads text; the model's own where there is none, or more than one."""
    try:
        return model.config.get_text_config()
    except (ValueError, AttributeError):
        return model.config
