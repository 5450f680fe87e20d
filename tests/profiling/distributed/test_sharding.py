"""Weights that are spread over processes."""

import pytest
import torch

from layerlens_core.errors import WorkersError
from layerlens_core.profiling.distributed.workers import ALONE
from scripts import two_processes as together


def test_sharding_needs_processes():
    model = together.llama()
    with pytest.raises(WorkersError, match="torchrun --nproc-per-node N"):
        together.shard(model, together.inspect(model), torch.device("cpu"), ALONE)
