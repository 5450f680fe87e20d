"""Many compact adapters over one subspace: bytes of each, time to load one, and whether it computes what its LoRA does.

    python tests/benchmarks/compact_adapters.py MODEL [--adapters 1000] [--budget r=0.0625] [--loads 20] [--out DIR]

MODEL is a local causal model; without one a random Llama of 24 M parameters. Subspaces are random, R is noise.
"""

import argparse
import statistics
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

import layerlens_core as ll
from layerlens_core.adaptation.cores.subspaces import cores_of, read_once
from layerlens_core.inspection.inspect import inspect
from zoo.subspaces import cores_of_size, noise, written


def model_of(source):
    if source:
        return AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6}
    return LlamaForCausalLM(LlamaConfig(vocab_size=8000, **shape))


def main(arguments):
    torch.set_num_threads(1)
    base, out = model_of(arguments.model), Path(arguments.out or tempfile.mkdtemp())
    run, layers = out / "run", inspect(base).layers
    plan = cores_of_size(base, run, {layer.name: ("core", arguments.size) for layer in layers})
    subspace = noise(base, most=64)
    plan = ll.Plan.load(_saved(plan, run, written(base, run, subspace)))
    wrapped = ll.apply(deepcopy(base), plan, directions=run).eval()
    store = out / "store"
    store.mkdir(exist_ok=True)
    (store / "subspace.safetensors").write_bytes((run / "subspace.safetensors").read_bytes())
    inputs, kept, began = {"input_ids": torch.arange(5, 69)[None]}, {}, time.monotonic()
    with torch.no_grad():
        for number in range(arguments.adapters):
            generator = torch.Generator().manual_seed(number)
            for core in cores_of(wrapped).values():
                core.copy_(0.1 * torch.randn(core.shape, generator=generator))
            ll.save_compact(wrapped, store / f"{number}", subspace=run)
            if number % (arguments.adapters // arguments.loads) == 0:
                kept[number] = wrapped(**inputs).logits
        saved = time.monotonic() - began
        wrapped.save_pretrained(out / "ordinary")
        sizes = [path.stat().st_size for path in store.glob("*/core.safetensors")]
        ordinary = (out / "ordinary" / "adapter_model.safetensors").stat().st_size
        shared = (store / "subspace.safetensors").stat().st_size
        seconds, worst = [], 0.0
        read_once.cache_clear()  # the first load reads the subspace, as in a fresh process
        for number, expected in kept.items():
            fresh = deepcopy(base)
            began = time.monotonic()
            loaded = ll.load(fresh, store / f"{number}")
            seconds.append(time.monotonic() - began)
            assert torch.equal(loaded(**inputs).logits, expected), "a compact adapter computes something else"
            lora = PeftModel.from_pretrained(deepcopy(base), ll.as_lora(store / f"{number}", out / "lora")).eval()
            worst = max(worst, float((lora(**inputs).logits - expected).abs().max() / expected.abs().max()))
    modules = len(plan.sizes("core"))
    print(f"{len(sizes)} adapters of {plan.parameters:,} parameters in {modules} modules, rank {arguments.size}")
    print(f"bytes: {max(sizes):,} each, {shared:,} of the subspace once (64 directions); as LoRA {ordinary:,} each")
    print(
        f"seconds: {saved / len(sizes):.4f} to save one; to load one {statistics.median(seconds):.3f} in the median, "
        f"{seconds[0]:.3f} the first, {max(seconds):.3f} the slowest of {len(seconds)}"
    )
    print(f"logits: equal to the last bit; its LoRA in plain PEFT {worst:.1e} of the largest away at most")


def _saved(plan, run, digest):
    import attrs

    attrs.evolve(plan, subspace=digest).save(run)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--out")
    main(parser.parse_args())
