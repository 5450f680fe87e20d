"""What a training step costs with cores, beside LoRA of as many parameters and of as large a rank: time, and memory.

    python tests/benchmarks/core_step.py [--device cuda] [--batch 8] [--length 256] [--repeats 7]

A random Llama of 24 M parameters; arms take turns, and each figure is the median with its range. On a GPU the peak of
memory is above the frozen model's; on a CPU it is not measured.
"""

import argparse
import statistics
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

import layerlens_core as ll
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with
from zoo.subspaces import cores_of_size, noise, written

#: By name, the method and its size: cores of n² parameters beside LoRA of about as many, and of the same rank.
ARMS = {
    "LoRA r=1": ("lora", 1),
    "core n=32": ("core", 32),
    "LoRA r=32": ("lora", 32),
    "core n=8": ("core", 8),
}


def model_of(device):
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6}
    return LlamaForCausalLM(LlamaConfig(vocab_size=8000, **shape)).to(device)


def arm(base, method, size, run):
    import attrs

    layers = {layer.name: (method, size) for layer in inspect(base).layers}
    if method == "core":
        plan = cores_of_size(base, run, layers)
        plan = attrs.evolve(plan, subspace=written(base, run, noise(base, most=64)))
        return ll.apply(deepcopy(base), plan, directions=run)
    return ll.apply(deepcopy(base), plan_with(base, layers))


def step(model, batch, optimizer):
    optimizer.zero_grad(set_to_none=True)
    model(**batch).loss.backward()
    optimizer.step()


def main(arguments):
    device, run = torch.device(arguments.device), Path(tempfile.mkdtemp())
    base = model_of(device)
    tokens = torch.randint(5, 8000, (arguments.batch, arguments.length), device=device)
    batch = {"input_ids": tokens, "labels": tokens}
    models = {name: arm(base, method, size, run).train() for name, (method, size) in ARMS.items()}
    optimizers = {
        name: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        for name, model in models.items()
    }
    seconds, peaks = {name: [] for name in ARMS}, dict.fromkeys(ARMS, 0)
    for turn in range(arguments.repeats + 1):
        for name, model in models.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            began = time.perf_counter()
            step(model, batch, optimizers[name])
            if device.type == "cuda":
                torch.cuda.synchronize()
                peaks[name] = torch.cuda.max_memory_allocated() - held
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    first = statistics.median(seconds["LoRA r=1"])
    for name, found in seconds.items():
        ratios = [each / statistics.median(seconds["LoRA r=1"]) for each in found]
        trained = sum(p.numel() for p in models[name].parameters() if p.requires_grad)
        memory = f", peak {peaks[name] / 2**20:.1f} MiB above what is held" if device.type == "cuda" else ""
        print(
            f"{name:<10} {trained:>10,} parameters: {statistics.median(found):.3f} s a step, "
            f"{statistics.median(found) / first:.3f} of LoRA r=1 ({min(ratios):.3f} to {max(ratios):.3f}){memory}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args())
