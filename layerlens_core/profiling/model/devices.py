"""Where a model takes its inputs and computes, and how batches get there."""

import itertools

import torch
from torch import nn
from transformers import PreTrainedModel

from layerlens_core.inspection.accessors import input_embeddings
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.profiling.samples.sample import Sample


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model takes its inputs, also when ``device_map`` spread it over devices or offloaded its weights."""
    embeddings = input_embeddings(model)
    first = None if embeddings is None else next(embeddings.parameters(), None)
    device: torch.device = (next(model.parameters()) if first is None else first).device
    where = getattr(getattr(embeddings or model, "_hf_hook", None), "execution_device", None)
    return device if device.type != "meta" or where is None else torch.device(where)


def weight_device(module: nn.Module, model: PreTrainedModel) -> torch.device:
    """Where a module computes."""
    tensors = itertools.chain(module.parameters(), module.buffers(), packed_tensors(module))  # GPTQ's are buffers
    device: torch.device = next(tensors).device
    return device if device.type != "meta" else input_device(model)


def on(device: torch.device, batch: Sample) -> Sample:
    """A batch on a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
