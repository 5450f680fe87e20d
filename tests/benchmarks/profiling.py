"""What a profile costs, as a share of a plain training step's forward and backward pass, taken in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/profiling.py [--width 512] [--tokens 128,512] [--arms floor,fisher]
    python tests/benchmarks/profiling.py --shape llama-3.1-8b --device cuda --dtype bfloat16 --tokens 128,512,2048

A random Llama runs over the same samples in every arm; all tokens are labelled. Arms take turns, and each ratio is of
neighbours in time: median, and least and largest, over the repeats. `plain` computes the gradients of all linear
weights, the head's included; `floor` is what profiling cannot go below: frozen weights, gradients of activations down
to the first layer. Both compute all logits at once, as the model does; `floor (chunked head)` computes them as a
profile does. What others offer is in peers.py; what is not installed is skipped. Timed are the batches after the first,
so that what is done once for a profile does not count, and of arms that end in (compiled) not the compiling either.
Peak memory is over the weights, on CUDA devices alone.
"""

import argparse
import functools
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from peers import FOUND, PEERS, Absent

from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.model.devices import on
from layerlens_core.profiling.model.losses import per_sample_losses, vocabulary_head
from layerlens_core.profiling.samples.sample import Sample, micro_batches

#: What each arm has the engine gather, and what else it is called with.
ARMS: dict[str, dict[str, object]] = {
    "fisher": {"needs": ("sample_norms",)},
    "fisher+energy": {"needs": ("gradient_norms",)},
    "sketch": {"needs": ("gradient_norms",), "sketch_columns": 32},
    "weight_gradient": {"needs": ("weight_gradient",)},
    "all three": {"needs": ("gradient_norms", "weight_gradient")},
    "fisher+energy+directions": {"needs": ("gradient_norms",), "directions": True},
    "spectrum": {"needs": ("spectrum",)},
    "all four": {"needs": ("gradient_norms", "weight_gradient", "spectrum")},
}
#: Whether the linear weights need gradients (None: all but the head's), and whether logits come in chunks.
STEPS: dict[str, tuple[bool | None, bool]] = {
    "plain": (True, False),
    "plain but for the head": (None, False),
    "floor": (False, False),
    "floor (chunked head)": (False, True),
}
#: Ends the name of an arm in which the layers are compiled.
COMPILED = " (compiled)"
#: Hidden, intermediate, layers, heads, key-value heads, vocabulary.
SHAPES = {
    "llama-3.1-8b": (4096, 14336, 32, 32, 8, 128256),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 128256),
}

Timer = Callable[[], float]


def build(arguments: argparse.Namespace) -> transformers.PreTrainedModel:
    width = arguments.width
    heads = max(width // 64, 1)
    hidden, intermediate, layers, heads, kv, vocabulary = SHAPES.get(
        arguments.shape, (width, width * 11 // 4, arguments.layers, heads, heads, arguments.vocabulary)
    )
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        pad_token_id=0,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    with torch.device(arguments.device):
        model = transformers.LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def draw(vocabulary: int, samples: int, tokens: int) -> list[Sample]:
    drawn = torch.randint(1, vocabulary, (samples, tokens), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row.clone()} for row in drawn]


def timer(device: torch.device) -> Timer:
    """Seconds: on the wall with a GPU, of this process on a CPU, which may be shared with others."""
    if device.type != "cuda":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def steps(
    model: transformers.PreTrainedModel, samples: list[Sample], batch: int, names: list[str], chunked: bool, now: Timer,
    compiled: Sequence[str] = (),
) -> float:  # fmt: skip
    """Seconds of the batches after the first, with gradients of the named weights, or of activations alone."""
    for layer in compiled:
        model.get_submodule(layer).compile()
    model.requires_grad_(False)
    on_device = [on(model.device, inputs) for inputs in micro_batches(samples, batch, 0)]
    head = vocabulary_head(model, {k: v[:1] for k, v in on_device[0].items()}, "causal-lm") if chunked else None
    for name in names:
        model.get_submodule(name).weight.requires_grad_(True)  # type: ignore[union-attr]
    handle = model.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
    began = now()
    try:
        for number, inputs in enumerate(on_device):
            if number == 1:
                began = now()
            torch.autograd.backward(per_sample_losses(model, inputs, "causal-lm", head).sum())
            model.zero_grad(set_to_none=True)
        return now() - began
    finally:
        handle.remove()
        model.requires_grad_(False)
        for layer in compiled:
            model.get_submodule(layer)._compiled_call_impl = None


def profiled(
    model: transformers.PreTrainedModel, samples: list[Sample], batch: int, now: Timer, options: dict[str, object]
) -> float:
    """Seconds of the batches after the first."""
    marks: list[float] = []
    targets = inspect(model).modules
    execution = Execution(progress=lambda done, total: marks.append(now()))
    measure(model, targets, samples, "causal-lm", Settings(micro_batch=batch, **options), execution)
    return marks[-1] - marks[0]


def compare(model: transformers.PreTrainedModel, tokens: int, batch: int, arguments: argparse.Namespace) -> dict:
    """Rows of a table: ratio to plain in the median, least and largest, seconds a batch, and peak in MiB."""
    now = timer(model.device)
    samples = draw(model.config.vocab_size, (arguments.batches + 1) * batch, tokens)
    inventory = inspect(model)
    names = [target.name for target in inventory.modules]
    names_of_layers = [layer.name for layer in inventory.layers]
    weights: dict[bool | None, list[str]] = {True: [*names, "lm_head"], None: names, False: []}
    runs: dict[str, Callable[[], float]] = {}
    for arm in ["plain", *arguments.arms.split(",")]:
        bare = arm.removesuffix(COMPILED)
        layers = names_of_layers if bare != arm else []
        if bare in STEPS:
            trained, chunked = STEPS[bare]
            runs[arm] = functools.partial(steps, model, samples, batch, weights[trained], chunked, now, layers)
        elif bare in ARMS:
            options = {**ARMS[bare], "compile": layers}
            runs[arm] = lambda o=options: profiled(model, samples, batch, now, o)  # type: ignore[misc]
        else:
            batches = [on(model.device, inputs) for inputs in micro_batches(samples, batch, 0)]
            runs[arm] = lambda p=PEERS[arm], b=batches: p(model, b, names, now)  # type: ignore[misc]
    for arm in list(runs):
        try:
            runs[arm]()  # warm up
            continue
        except (Absent, torch.OutOfMemoryError) as error:
            print(f"{arm}: {'out of memory' if isinstance(error, torch.OutOfMemoryError) else error}")
            del runs[arm]
        gc.collect()  # outside of the handler, which keeps what the arm held
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
    seconds: dict[str, list[float]] = {arm: [] for arm in runs}
    peaks = dict.fromkeys(runs, float("nan"))
    cuda = model.device.type == "cuda"
    for _ in range(arguments.repeats):
        for arm, run in runs.items():
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            seconds[arm].append(run() / arguments.batches)
            if cuda:
                peaks[arm] = (torch.cuda.max_memory_allocated() - before) / 2**20
    if FOUND:
        exact = measure(
            model, inventory.modules, samples, "causal-lm", Settings(needs=("sample_norms",), micro_batch=batch)
        )
        truth = [item.sum_squared_norm or 0.0 for item in exact.statistics]
        for arm, sums in FOUND.items():
            worst = max(abs(a / b - 1) for a, b in zip(sums, truth, strict=True))
            print(f"{arm}: Fisher traces as ours to {worst:.0e}, the worst module")
        FOUND.clear()
    rows = {}
    for arm, took in seconds.items():
        ratios = [a / b for a, b in zip(took, seconds["plain"], strict=True)]
        rows[arm] = (statistics.median(ratios), min(ratios), max(ratios), statistics.median(took), peaks[arm])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"width": 512, "layers": 8, "vocabulary": 8192, "batches": 2, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shape", choices=["", *SHAPES], default="")
    parser.add_argument("--tokens", default="128", help="Lengths, comma-separated.")
    parser.add_argument("--tokens-a-batch", type=int, default=1024)
    parser.add_argument("--arms", default=",".join([*list(STEPS)[1:], *ARMS]))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch._dynamo.config.recompile_limit = 64  # one function is compiled for many arms
    model = build(arguments)
    where = torch.cuda.get_device_name() if model.device.type == "cuda" else f"{platform.machine()} CPU"
    threads = os.environ.get("OMP_NUM_THREADS", "?")
    print(f"{where}, {threads} threads, torch {torch.__version__}, {vars(arguments)}")
    tables = {}
    for tokens in map(int, arguments.tokens.split(",")):
        batch = max(arguments.tokens_a_batch // tokens, 2)
        rows = compare(model, tokens, batch, arguments)
        tables[str(tokens)] = rows
        print(f"\n{batch} × {tokens} tokens\n\n| arm | ratio to plain | s a batch | peak, MiB |\n|---|---|---|---|")
        for arm, row in rows.items():
            print("| {} | {:.3f} ({:.3f}–{:.3f}) | {:.4f} | {:.0f} |".format(arm, *row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=2))


if __name__ == "__main__":
    main()
