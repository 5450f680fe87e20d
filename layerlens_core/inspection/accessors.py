"""What transformers asks a model's class for, which not every class answers."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def input_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """What the model embeds its inputs with, or None where the class has no such module, or does not say."""
    return _answered(model, "get_input_embeddings")


def output_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """The language-model head, or None where the class has none, or does not say."""
    return _answered(model, "get_output_embeddings")


def _answered(model: PreTrainedModel, question: str) -> nn.Module | None:
    try:
        answer = getattr(model, question)()
    except (NotImplementedError, AttributeError, TypeError):
        return None
    return answer if isinstance(answer, nn.Module) else None


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the part that reads text; the model's own where there is none, or more than one."""
    try:
        return model.config.get_text_config()
    except (ValueError, AttributeError):
        return model.config
