"""Applying a plan to a model of 10,010 linear modules, beside PEFT's own matching by the ends of names.

    python tests/benchmarks/applying.py [--layers 1430] [--repeats 3]

A Llama on the meta device, so that weights cost nothing: 1,430 layers of 7 linear modules. Ours has a rank of its own
for each module, looked up by full name, and checks its plan; PEFT's has one rank and seven ends of names. Both run by
turns in one process, each on a fresh model; the ratio is that of the medians.
"""

import argparse
import gc
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import transformers
from peft import LoraConfig, get_peft_model

from layerlens_core.adaptation.apply import apply
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.plan import Plan
from layerlens_core.values.request import Request

SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def build(layers: int) -> transformers.PreTrainedModel:
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=4, vocab_size=100
    )
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config)


def plan_for(model: transformers.PreTrainedModel) -> Plan:
    inventory = inspect(model)
    decisions = []
    for layer in inventory.layers:
        sizes = {module.name: 1 + at % 8 for at, module in enumerate(layer.modules)}
        params = sum(sizes[module.name] * (module.in_features + module.out_features) for module in layer.modules)
        decisions.append(
            Decision(
                unit=layer.name, method="lora", size=8, sizes=sizes, utility=1.0, cost=Cost(params=params), reason=""
            )
        )
    return Plan(
        profile="0" * 64,
        architecture=inventory.architecture, fingerprint=inventory.fingerprint, shapes=inventory.shapes, task="",
        request=Request(strategy="", budget=(), methods=("lora",)), limits=Limits(),
        cost=sum((d.cost for d in decisions), Cost()),
        decisions=tuple(decisions),
    )  # fmt: skip


def seconds(run: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1430)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan = plan_for(build(options.layers))
    times: dict[str, list[float]] = {"ours": [], "PEFT": []}
    for _ in range(options.repeats):
        model = build(options.layers)
        times["ours"].append(seconds(lambda model=model: apply(model, plan)))
        model = build(options.layers)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=SUFFIXES)
        times["PEFT"].append(seconds(lambda model=model, config=config: get_peft_model(model, config)))
    count = sum(len(decision.sizes) for decision in plan.decisions)
    print(
        f"{count:,} linear modules, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    for name, values in times.items():
        spread = f"{min(values):.1f} to {max(values):.1f} s"
        print(f"{name:>5}  median {statistics.median(values):6.1f} s   ({spread}, {len(values)} runs)")
    ratio = statistics.median(times["ours"]) / statistics.median(times["PEFT"])
    each = [ours / peft for ours, peft in zip(times["ours"], times["PEFT"], strict=True)]
    print(f"ours / PEFT  {ratio:.2f}   ({min(each):.2f} to {max(each):.2f})")


if __name__ == "__main__":
    main()
