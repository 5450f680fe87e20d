"""Spread a model that is larger than one device over all of them: FSDP2, by layers."""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError, WorkersError, first_line
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.values.inventory import Inventory


def shard(model: PreTrainedModel, inventory: Inventory, device: torch.device, workers: Workers) -> None:
    """Leave each of the workers a share of every weight on its device; a layer's weights are gathered while it runs.

    model: whole, in main memory, in every worker. It stays frozen: its weights are only there to be profiled.
    inventory: of the model.
    device: this worker's.
    workers: at least two.

    Raises `WorkersError` where there is one worker alone, and `ModelError` where FSDP2 refuses the model.
    """
    if workers.alone:
        raise WorkersError(
            "--shard spreads a model over several processes: torchrun --nproc-per-node N -m layerlens_core … --shard"
        )
    model.requires_grad_(False)
    mesh = init_device_mesh(device.type, (workers.world_size,))
    try:
        for layer in inventory.layers:
            fully_shard(model.get_submodule(layer.name), mesh=mesh)
        fully_shard(model, mesh=mesh)
    except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"{inventory.architecture} cannot be sharded by FSDP2: {first_line(error)}") from error
