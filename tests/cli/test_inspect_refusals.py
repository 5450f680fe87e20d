"""Models in which there is nothing to adapt are refused by name."""

import pytest
import torch
import transformers
from torch import nn

from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect


class _Convolutional(transformers.PreTrainedModel):
    config_class = transformers.PretrainedConfig

    def __init__(self, config: transformers.PretrainedConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3) for _ in range(2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class _Flat(_Convolutional):
    def __init__(self, config: transformers.PretrainedConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(4, 4)


@pytest.mark.parametrize("kind", [_Convolutional, _Flat])
def test_a_model_without_a_linear_module_in_a_layer_is_refused_by_name(kind: type[_Convolutional]) -> None:
    with pytest.raises(ModelError, match=rf"{kind.__name__} has no repeated layer with a linear module"):
        inspect(kind(transformers.PretrainedConfig()))
