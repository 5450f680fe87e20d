"""How long a method's own computation takes in a forward pass, measured on the device at hand.

For each method the operations that it adds at one target are run at a small and at a large size, on random inputs of
the model's width and precision. A line through the two medians gives the time of any size and of each further step of
size. LoRA that is merged for inference costs nothing: where that is planned these numbers are not needed.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import PreTrainedModel

from layerlens_core.values.inventory import Inventory

SMALL, LARGE = 8, 64
REPEATS = 30
WARM_UP = 5


def measure_latency(
    model: PreTrainedModel, inventory: Inventory, *, batch: int = 1, length: int = 128
) -> dict[str, tuple[float, float]]:
    """By method, seconds of any size and of each further step of size, at one target. The model is not run.

    model: its device, dtype and widths are taken.
    inventory: of the model.
    batch: samples of the forward pass that is timed.
    length: tokens of a sample.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        return {name: _line(build, model.device) for name, build in _methods(model, inventory, batch, length).items()}


def _methods(
    model: PreTrainedModel, inventory: Inventory, batch: int, length: int
) -> dict[str, Callable[[int], Callable[[], Tensor]]]:
    """For each method, what it computes at one target, as a function of its size."""
    device, dtype = model.device, model.dtype
    writer = next((m for layer in inventory.layers for m in layer.residual_writers), inventory.modules[0])
    width = writer.out_features
    hidden = torch.randn(batch, length, width, device=device, dtype=dtype)

    def lora(size: int) -> Callable[[], Tensor]:
        down, up = _random(size, width, hidden), _random(width, size, hidden)
        return lambda: hidden + 2.0 * (hidden @ down.T @ up.T)

    def adapter(size: int) -> Callable[[], Tensor]:
        down, up = _random(size, width, hidden), _random(width, size, hidden)
        return lambda: hidden + gelu(hidden @ down.T) @ up.T

    methods: dict[str, Callable[[int], Callable[[], Tensor]]] = {"lora": lora, "adapter": adapter}
    attention = next((a for layer in inventory.layers for a in layer.attentions), None)
    if attention is not None:
        heads, key, value = attention.query_heads, attention.key_dim, attention.value_dim
        query = torch.randn(batch, heads, length, key, device=device, dtype=dtype)
        gate = torch.zeros(heads, 1, 1, device=device, dtype=dtype)

        def prefix(size: int) -> Callable[[], Tensor]:
            keys = torch.randn(batch, heads, size, key, device=device, dtype=dtype)
            values = torch.randn(batch, heads, size, value, device=device, dtype=dtype)
            return lambda: gate * scaled_dot_product_attention(query, keys, values)

        methods["prefix"] = prefix
    return methods


def _random(rows: int, columns: int, like: Tensor) -> Tensor:
    return torch.randn(rows, columns, device=like.device, dtype=like.dtype)


def _line(build: Callable[[int], Callable[[], Tensor]], device: torch.device) -> tuple[float, float]:
    """Seconds at size 0 and for each step of size, through the medians at two sizes; neither below 0."""
    small, large = (_median_seconds(build(size), device) for size in (SMALL, LARGE))
    per_size = max((large - small) / (LARGE - SMALL), 0.0)
    return max(small - per_size * SMALL, 0.0), per_size


def _median_seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    seconds = []
    for repeat in range(WARM_UP + REPEATS):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        if repeat >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
