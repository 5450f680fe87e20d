"""What a profile costs, as a share of a plain training step's forward and backward pass, taken in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/profiling.py [--width 512] [--tokens 128] [--arms floor,fisher]

A random Llama-shaped model runs over the same samples in every arm; all tokens are labelled. Arms take turns, and each
ratio is of neighbours in time: median, and least and largest, over the repeats. `plain` computes the gradients of all
linear weights; `floor` is what profiling cannot go below: frozen weights, gradients of activations down to the first
layer. Peak memory is over the weights, on CUDA devices alone.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from layerlens_core.adaptation.inspect import inspect
from layerlens_core.profiling.engine import measure
from layerlens_core.profiling.losses import per_sample_losses
from layerlens_core.profiling.samples import Sample, micro_batches
from layerlens_core.statistics import STATISTICS

#: What each arm has the engine gather, and what else it is called with.
ARMS: dict[str, dict[str, object]] = {
    "fisher": {"needs": ("sample_norms",) if "sample_norms" in STATISTICS else ("gradient_norms",)},
    "fisher+energy": {"needs": ("gradient_norms",)},
    "weight_gradient": {"needs": ("weight_gradient",)},
    "all three": {"needs": ("gradient_norms", "weight_gradient")},
    "fisher+energy+directions": {"needs": ("gradient_norms",), "directions": True},
}


def build(arguments: argparse.Namespace) -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 11 // 4,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(arguments.width // 64, 1),
        num_key_value_heads=max(arguments.width // 64, 1),
        vocab_size=arguments.vocabulary,
        max_position_embeddings=max(arguments.tokens, 64),
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    return transformers.LlamaForCausalLM(config).to(arguments.device, dtype).eval()


def draw(arguments: argparse.Namespace) -> list[Sample]:
    tokens = torch.randint(1, arguments.vocabulary, (arguments.samples, arguments.tokens))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row.clone()} for row in tokens]


def steps(model: transformers.PreTrainedModel, samples: list[Sample], batch: int, trained: list[str]) -> None:
    """Forward and backward passes with gradients of the named weights, or of activations alone."""
    model.requires_grad_(False)
    for name in trained:
        model.get_submodule(name).weight.requires_grad_(True)  # type: ignore[union-attr]
    handle = model.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
    try:
        for inputs in micro_batches(samples, batch, 0):
            inputs = {key: value.to(model.device) for key, value in inputs.items()}
            torch.autograd.backward(per_sample_losses(model, inputs, "causal-lm").sum())
            model.zero_grad(set_to_none=True)
    finally:
        handle.remove()
        model.requires_grad_(False)


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds (of processor time on a CPU), and on CUDA the peak in MiB over what was allocated before."""
    cuda = device.type == "cuda"
    before = 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    # A CPU that is shared with others: its own seconds, not those on the wall.
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    run()
    if cuda:
        torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else float("nan")
    return clock() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "width": 512,
        "layers": 8,
        "tokens": 128,
        "batch": 8,
        "vocabulary": 8192,
        "repeats": 5,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--arms", default=",".join(["floor", *ARMS]))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, samples = build(arguments), draw(arguments)
    targets = inspect(model).modules
    names = [target.name for target in targets]
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: steps(model, samples, arguments.batch, names),
        "floor": lambda: steps(model, samples, arguments.batch, []),
    }
    for arm, options in ARMS.items():
        runs[arm] = lambda options=options: measure(  # type: ignore[misc]
            model, targets, samples, "causal-lm", micro_batch=arguments.batch, **options
        )
    runs = {arm: runs[arm] for arm in ("plain", *arguments.arms.split(","))}
    for run in runs.values():
        run()  # warm up
    seconds: dict[str, list[float]] = {arm: [] for arm in runs}
    peaks: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for arm, run in runs.items():
            took, peaks[arm] = timed(run, model.device)
            seconds[arm].append(took)
    where = torch.cuda.get_device_name() if model.device.type == "cuda" else f"{platform.machine()} CPU"
    print(f"{where}, {os.environ.get('OMP_NUM_THREADS', '?')} threads, torch {torch.__version__}, {vars(arguments)}")
    rows = {}
    for arm, took in seconds.items():
        ratios = [a / b for a, b in zip(took, seconds["plain"], strict=True)]
        rows[arm] = (statistics.median(ratios), min(ratios), max(ratios), statistics.median(took), peaks[arm])
        print("| {} | {:.3f} ({:.3f}–{:.3f}) | {:.2f} s | {:.0f} MiB |".format(arm, *rows[arm]))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
