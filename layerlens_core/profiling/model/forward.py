"""Run a model for its logits, and say in a line what it says where it cannot be run."""

import sys
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import LayerLensError, ModelError, first_line
from layerlens_core.profiling.samples.sample import Sample


def forward(model: PreTrainedModel, inputs: Sample, *, cache: bool = True) -> Tensor:
    """The logits of a model; as `run`."""
    logits: Tensor = run(model, inputs, cache=cache).logits
    return logits


def run(model: PreTrainedModel, inputs: Sample, *, cache: bool = True) -> Any:
    """What a model's forward pass gives.

    model: to run.
    inputs: what it reads, on its device.
    cache: leave it to the model whether it keeps a cache; else it keeps none.

    Raises `ModelError` in place of whatever the model raises, but for memory that runs out and failures to compile.
    """
    options = {} if cache or not hasattr(model.config, "use_cache") else {"use_cache": False}
    try:
        return model(**inputs, **options)
    except (LayerLensError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # models raise whatever they like
        if compiler_failure(error) is not None:
            raise
        shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in inputs.items())
        raise ModelError(
            f"{type(model).__name__} cannot be run on these samples ({shapes}): "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def compiler_failure(error: Exception) -> str | None:
    """What the compiler says, in a line, where it is the compiler that failed."""
    exceptions = sys.modules.get("torch._dynamo.exc")
    if exceptions is None or not isinstance(error, exceptions.TorchDynamoException):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # The first line may only name what raised the error, with the message in the second.
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
