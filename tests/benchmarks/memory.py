"""Predicted and real peak memory of LoRA training on a CUDA GPU, where training reaches down to three depths.

    PYTHONPATH=.:plugins:native LAYERLENS_PURE=1 python tests/benchmarks/memory.py [--json FILE] [--cpu-dry-run]

A random Llama-shaped model of about 1.1 B parameters in bfloat16 gets LoRA of rank 16 on every linear module of all
layers, of the upper half, and of the top two. Predicted is what a plan says (`CandidateSet.total`), from one forward
pass of four samples that are half as long as those trained on; real is `torch.cuda.max_memory_allocated` over two
steps of AdamW. Nothing need be installed but torch, transformers, peft, attrs and pluggy; it takes a minute or two.

Columns, in GiB: predicted, its parts (frozen weights; LoRA with gradients and optimizer states; kept for the backward
pass by layers; the head's peak), real, and predicted / real. "after forward" is what is allocated between the passes.
"""

import argparse
import gc
import importlib.metadata
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

from layerlens_builtin.methods import lora, none
from layerlens_core.allocation.build import Findings, Terms, build_unit
from layerlens_core.allocation.flops import depth_costs
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import measure_activations
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Activations, Cost, Training
from layerlens_core.values.inventory import Inventory

GIB = 2**30
RANK, STEPS, SAMPLES = 16, 2, 4
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
TINY = {
    **LARGE,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}


def build(device: torch.device, *, tiny: bool) -> transformers.PreTrainedModel:
    """A model of random weights, made where it will stay."""
    config = transformers.LlamaConfig(**(TINY if tiny else LARGE), pad_token_id=0)
    config._attn_implementation = "sdpa"
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return transformers.LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(default)


def tokens(vocabulary: int, count: int, length: int) -> torch.Tensor:
    """Random tokens [count, length]."""
    return torch.randint(3, vocabulary, (count, length), generator=torch.Generator().manual_seed(0))


def activations_of(model: transformers.PreTrainedModel, inventory: Inventory, length: int) -> Activations:
    """As `layerlens_core.profile` measures them."""
    rows = tokens(model.config.vocab_size, SAMPLES, length)
    samples = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]
    return measure_activations(model, inventory, samples, "causal-lm")


def predict(inventory: Inventory, layers: int, training: Training, activations: Activations) -> dict[str, float]:
    """Bytes that a plan with LoRA on the uppermost layers is said to take, in all and by part."""
    lowest = len(inventory.layers) - layers
    units = tuple(
        build_unit(
            layer,
            1.0,
            {"none": none.METHOD, "lora": lora.METHOD},
            Terms(training=training),
            Findings(kept_inputs=activations.adapted[layer.name], depth=depth),
        )
        for depth, layer in enumerate(inventory.layers)
    )
    decisions = [
        unit.decide("lora", RANK, reason="benchmark")
        if unit.depth >= lowest
        else unit.decide("none", reason="benchmark")
        for unit in units
    ]
    depths = depth_costs(inventory, training, activations)
    total: Cost = CandidateSet(units=units, methods=("none", "lora"), depths=depths).total(decisions)
    weights = depths[-1].memory
    adapters = float(total.params * training.bytes_per_parameter)
    head = activations.head * training.tokens
    return {
        "predicted": total.memory,
        "weights": weights,
        "lora": adapters,
        "layers": total.memory - weights - adapters - head,
        "head": head,
        "parameters": float(total.params),
    }


def train(device: torch.device, layers: int, training: Training, *, tiny: bool) -> dict[str, float]:
    """Bytes that training really takes; NaN where there is no GPU to ask."""
    model = build(device, tiny=tiny)
    inventory = inspect(model)
    names = [module.name for layer in inventory.layers[-layers:] for module in layer.modules]
    # Full names; `apply` would do the same, but needs more packages.
    wrapped = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names)).train()
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    assert all(parameter.dtype == torch.float32 for parameter in trained), "PEFT no longer holds LoRA in float32"
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    batch = tokens(model.config.vocab_size, training.batch, training.length).to(device)
    cuda = device.type == "cuda"
    after = float("nan")
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        # The loss alone, as a Trainer takes it: the logits of the output are let go of.
        loss = wrapped(input_ids=batch, labels=batch, use_cache=False).loss
        if cuda:
            after = float(torch.cuda.memory_allocated())
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss), "the loss is not finite"
    if cuda:
        torch.cuda.synchronize()
    return {
        "real": float(torch.cuda.max_memory_allocated()) if cuda else float("nan"),
        "after_forward": after,
        "parameters": float(sum(parameter.numel() for parameter in trained)),
    }


def free() -> None:
    """Let go of everything that is no longer referred to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def installed(package: str) -> str:
    """Its version, also where it came without metadata."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "of unknown version"))


def main() -> int:
    """Print the table. 0 also where there is no GPU; 1 where a count of parameters is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-dry-run", action="store_true", help="a tiny model on the CPU, to check this script")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, in bytes")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    tiny = options.cpu_dry_run
    if not tiny and not torch.cuda.is_available():
        print("skipped: there is no CUDA GPU (--cpu-dry-run checks the script without one)")
        return 0
    device = torch.device("cpu" if tiny else "cuda")
    training = Training(
        batch=2 if tiny else options.batch, length=32 if tiny else options.length, optimizer="adamw", dtype="bfloat16"
    )
    began = time.perf_counter()
    model = build(device, tiny=tiny)
    inventory = inspect(model)
    activations = activations_of(model, inventory, training.length // 2)
    del model
    free()
    print(
        f"{torch.cuda.get_device_name() if not tiny else 'CPU, dry run: nothing is measured'}; "
        + ", ".join(f"{name} {installed(name)}" for name in ("torch", "transformers", "peft"))
    )
    print(
        f"{inventory.parameters / 1e9:.2f} B parameters in bfloat16, {training.batch} x {training.length} tokens, "
        f"LoRA of rank {RANK}, AdamW, {STEPS} steps, sdpa; GiB"
    )
    columns = ("predicted", "weights", "lora", "layers", "head", "after_forward", "real")
    print(f"{'trained layers':>16}" + "".join(f"{name.replace('_', ' '):>15}" for name in columns) + f"{'ratio':>9}")
    count, rows, wrong = len(inventory.layers), [], False
    for layers in (count, count // 2, 2):
        row: dict[str, Any] = {"layers_trained": layers, **predict(inventory, layers, training, activations)}
        real = train(device, layers, training, tiny=tiny)
        free()
        if real["parameters"] != row["parameters"]:
            print(f"WRONG: {real['parameters']:,.0f} parameters train, predicted were {row['parameters']:,.0f}")
            wrong = True
        row |= real
        row["ratio"] = row["predicted"] / row["real"]
        rows.append(row)
        label = "all" if layers == count else f"top {layers}"
        print(f"{label:>16}" + "".join(f"{row[name] / GIB:>15.3f}" for name in columns) + f"{row['ratio']:>9.3f}")
    print(f"{time.perf_counter() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
