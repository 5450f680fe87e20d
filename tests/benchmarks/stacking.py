"""Arms a second when they train stacked, beside one after the other by PEFT and the Trainer's loop, in one run.

    python tests/benchmarks/stacking.py --shape 24m --device cuda --dtype bfloat16 --arms 1,8,28,56 [--compile]
    python tests/benchmarks/stacking.py --shape llama-3.2-1b --samples 4 --tokens 512 --rank 8 --arms 4,8 --device cuda

A random Llama, LoRA on all its linear modules, two thirds of the tokens labelled. The Trainer's loop and each number of
stacked arms take turns; a row has the median time of a step, with the quarters, and the arms a second over the
Trainer's. Peak memory is over the weights. Timed are the steps after the first ones, so that compiling does not count.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model

from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.values.comparison import Arm, Job, Schedule

#: Hidden, intermediate, layers, heads, key-value heads, vocabulary.
SHAPES = {
    "tiny": (64, 128, 2, 2, 2, 256),
    "24m": (384, 1024, 12, 6, 6, 8192),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 128256),
}
SCALE = 2


def build(arguments):
    hidden, intermediate, layers, heads, kv, vocabulary = SHAPES[arguments.shape]
    config = transformers.LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, vocab_size=vocabulary, max_position_embeddings=4096, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(arguments.device):
        model = transformers.LlamaForCausalLM(config)
    return model.to(getattr(torch, arguments.dtype)).eval()


def samples_of(arguments, vocabulary):
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(arguments.samples * 4):
        tokens = torch.randint(1, vocabulary, (arguments.tokens,), generator=generator)
        labels = tokens.clone()
        labels[: arguments.tokens // 3] = -100
        found.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels})
    return found


class Clock:
    """The time of every step."""

    def __init__(self, device):
        self.device, self.times, self.last = torch.device(device), [], None

    def tick(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.last is not None:
            self.times.append(now - self.last)
        self.last = now

    def summary(self, warm):
        kept = sorted(self.times[warm:])
        quarters = statistics.quantiles(kept, n=4) if len(kept) > 3 else [kept[0], statistics.median(kept), kept[-1]]
        return {
            "step": statistics.median(kept),
            "lower": quarters[0],
            "upper": quarters[2],
            "first": sum(self.times[:warm]),
        }


def by_trainer(model, samples, arguments, steps):
    """Step times of PEFT's LoRA in the Trainer's loop."""
    clock = Clock(arguments.device)

    class Tick(transformers.TrainerCallback):
        def on_step_end(self, *_args, **_kwargs):
            clock.tick()

    tuned = get_peft_model(
        model, LoraConfig(r=arguments.rank, lora_alpha=SCALE * arguments.rank, target_modules="all-linear")
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder, max_steps=steps, learning_rate=1e-3, per_device_train_batch_size=arguments.samples,
            save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            use_cpu=arguments.device == "cpu",
            bf16=arguments.dtype == "bfloat16", remove_unused_columns=False,
        )  # fmt: skip
        transformers.Trainer(
            model=tuned, args=settings, train_dataset=samples * (steps * arguments.samples // len(samples) + 1),
            data_collator=lambda rows: {key: torch.stack([row[key] for row in rows]) for key in rows[0]},
            callbacks=[Tick()],
        ).train()  # fmt: skip
    tuned.unload()
    model.requires_grad_(False)
    model.eval()
    return clock


def by_stack(testbed, arms, arguments, steps):
    """Step times of so many arms at once."""
    clock = Clock(arguments.device)
    modules = inspect(testbed.model).modules
    sizes = {"lora": {module.name: arguments.rank for module in modules}}
    schedule = Schedule(steps=steps, batch=arguments.samples)
    arm = Arm(name="uniform", budget="", sizes=sizes, scale=float(SCALE), parameters=0)
    jobs = [Job(arm=arm, rate=1e-3 * (1 + k / arms), seed=0, schedule=schedule, setting="") for k in range(arms)]
    with untouched(testbed.model):
        training = Training(
            testbed=testbed, block=Block.of(testbed, jobs), room=Room(arguments.room or arms),
            progress=lambda done, total: clock.tick(),
        )  # fmt: skip
        training.run()
    return clock, training.room.arms


def peak(device):
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0


def main(arguments):
    model = build(arguments)
    samples = samples_of(arguments, model.config.vocab_size)
    weights = peak(arguments.device)
    testbeds = {False: prepare_testbed(model, "causal-lm", samples, samples[: arguments.samples])}
    if arguments.compile:
        testbeds[True] = prepare_testbed(model, "causal-lm", samples, samples[: arguments.samples], compile=True)
    ways = [("trainer", 1, False)]
    ways += [("stacked", int(arms), False) for arms in arguments.arms.split(",")]
    ways += [("stacked", int(arms), True) for arms in arguments.arms.split(",") if arguments.compile]
    found = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way in ways:
            gc.collect()
            if arguments.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            name, arms, compiled = way
            room = arms
            if name == "trainer":
                clock = by_trainer(model, samples, arguments, arguments.warm + arguments.steps)
            else:
                clock, room = by_stack(testbeds[compiled], arms, arguments, arguments.warm + arguments.steps)
            row = clock.summary(arguments.warm) | {"peak": peak(arguments.device) - weights, "room": room}
            found[way].append(row)
            print(json.dumps({"way": way, **row}), flush=True)
    base = statistics.median(row["step"] for row in found[ways[0]])
    print("| way | arms | step, ms | arms a second over the Trainer's | peak over the weights, MiB |")
    print("|---|---|---|---|---|")
    for name, arms, compiled in ways:
        rows = found[name, arms, compiled]
        step = statistics.median(row["step"] for row in rows)
        ratios = [base * arms / row["step"] for row in rows]
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        print(
            f"| {name}{' compiled' * compiled} | {arms} "
            f"| {1e3 * step:.1f} ({1e3 * rows[0]['lower']:.1f}–{1e3 * rows[0]['upper']:.1f}) "
            f"| {base * arms / step:.2f} ({spread}) | {rows[0]['peak'] / 2**20:,.0f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="24m")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--arms", default="1,8,28")
    parser.add_argument("--room", type=int, default=0, help="arms in one pass; by default all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true")
    main(parser.parse_args())
