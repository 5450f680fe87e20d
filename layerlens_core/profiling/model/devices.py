"""Where a model takes its inputs and computes, how batches get there, and how much memory is free there."""

import itertools
import os
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from layerlens_core.inspection.accessors import input_embeddings
from layerlens_core.inspection.packed import packed_tensors
from layerlens_core.profiling.samples.sample import Sample

#: Bytes that are taken for free on a CPU that does not say.
_FREE = 2**32
#: Where a Linux container says how much memory it may use, and how much it uses.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model takes its inputs, also when ``device_map`` spread it over devices or offloaded its weights.

    model: of transformers.
    """
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


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; in a container, no more than it may still use."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _FREE
    try:
        most, used = (int(path.read_text()) for path in _CONTAINER)
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return max(0, min(free, most - used))
