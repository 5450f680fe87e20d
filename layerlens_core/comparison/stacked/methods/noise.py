"""What arms start from: of one seed and place always the same noise, whatever the size and whatever runs beside."""

import hashlib
import math

import torch
from torch import Tensor


def drawn(name: str, rows: int, features: int, seed: int, *, within: float | None = None) -> Tensor:
    """Entries from U(−b, b) [rows, features]; more rows of the same seed begin with these.

    name: of what is drawn.
    rows: how many.
    features: of a row.
    seed: of the arm.
    within: b; by default 1/√features, as PyTorch draws a linear map's weight, and PEFT LoRA's A.
    """
    noise = torch.rand(rows, features, generator=_generator(name, seed))
    return (noise * 2 - 1) * (1 / math.sqrt(features) if within is None else within)


def normal(name: str, rows: int, features: int, seed: int) -> Tensor:
    """Entries from N(0, 1), else as `drawn`."""
    generator = _generator(name, seed)
    # Row by row, as PyTorch draws the end of a long tensor in another way than its beginning.
    return torch.stack([torch.randn(features, generator=generator) for _ in range(rows)])


def _generator(name: str, seed: int) -> torch.Generator:
    start = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(start)
