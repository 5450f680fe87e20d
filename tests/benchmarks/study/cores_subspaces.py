"""Subspaces for cores: of a warm-up's update, by share of the steps and seed, and of the mean gradient.

Each is made once and kept as a file, named by its recipe, so that a call that was cut off goes on with the same.
"""

import hashlib
import json
import math
import time
from pathlib import Path

import attrs
import numpy as np
import torch
from cores_sources import Source

from layerlens_core.comparison.stacked.block import Block
from layerlens_core.comparison.stacked.methods.low_rank import A, B
from layerlens_core.comparison.stacked.subspaces import leading
from layerlens_core.comparison.stacked.train import Room, Training
from layerlens_core.files.directions import Pair
from layerlens_core.plugin import ActiveProfile, mean_gradients, plain_weight
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.warming.update import decomposed
from layerlens_core.values.comparison import Arm, Job

#: Singular vectors of a mean gradient that are kept.
MOST = 128
#: Added to a run's seed: the warm-up sees other batches than the run does.
WARM_SEED = 777
#: How often a warm-up that diverges is done again at half the rate.
HALVINGS = 4
SCALE = 2.0


@attrs.frozen
class Found:
    """What was made.

    subspace: pairs by module.
    strengths: singular values by module, of an update; of a gradient too, where they serve nothing.
    scores: by module, mean |W ⊙ ḡ|, of a gradient.
    """

    subspace: dict
    strengths: dict
    scores: dict


def warm_ups(testbed, schedule, source, seeds, along, arguments):
    """Of some seeds, the singular vectors of what LoRA adds after a share of the steps; trained beside each other.

    testbed: to train on.
    schedule: of the whole runs.
    source: which share, rank and rate.
    seeds: of the runs.
    along: the mean gradient, whose directions LoRA may start along.
    arguments: of the script, with the folder where subspaces are kept.
    """
    folder = Path(arguments.subspaces)
    paths = {seed: _path(folder, source.recipe(seed, arguments.profiled)) for seed in seeds}
    missing = [seed for seed, path in paths.items() if not path.exists()]
    if missing:
        began = time.monotonic()
        block, results, rate = _warmed_up(testbed, schedule, source, missing, along)
        for at, (seed, result) in enumerate(zip(missing, results, strict=True)):
            _write(paths[seed], _updates(block, at))
            row = {
                "source": source.subspace, "seed": seed, "steps": result.job.schedule.steps, "rank": source.rank,
                "rate": rate, "loss": result.loss(testbed.labels), "seconds": result.seconds,
                "peak": result.peak, "stacked": result.stacked,
            }  # fmt: skip
            with (folder.parent / "warm-ups.jsonl").open("a") as kept:
                kept.write(json.dumps(row) + "\n")
            print(f"{source.subspace}, seed {seed}: held-out NLL {row['loss']:.4f} at rate {rate:g}", flush=True)
        steps = results[0].job.schedule.steps
        took = time.monotonic() - began
        print(f"warm-up: {len(missing)} runs of {steps} steps in {took:.0f} s", flush=True)
    return {seed: _read(path) for seed, path in paths.items()}


def steps_of(schedule, share):
    """Steps of a warm-up."""
    return max(1, round(share * schedule.steps))


def gradient(testbed, arguments):
    """The mean gradient's singular vectors, and GoRA's importance of every module.

    testbed: with the samples.
    arguments: of the script, with the folder where subspaces are kept.
    """
    path = _path(Path(arguments.subspaces), Source.of("gradient").recipe(0, arguments.profiled))
    if not path.exists():
        began = time.monotonic()
        context = ActiveProfile(
            model=testbed.model, inventory=testbed.inventory,
            scored=tuple(layer.name for layer in testbed.inventory.layers),
            modules=tuple(module.name for layer in testbed.inventory.layers for module in layer.modules),
            samples=tuple(testbed.training[: arguments.profiled]), task=testbed.task, micro_batch=8, seed=0,
            progress=lambda done, total: None,
        )  # fmt: skip
        arrays = {}
        for module, mean in mean_gradients(context):
            pair = leading(mean, MOST)
            weight = plain_weight(context, module).detach()
            arrays |= {f"{module}:left": pair.left, f"{module}:right": pair.right}
            arrays[f"{module}:score"] = (weight.to(mean) * mean).abs().mean().cpu().numpy()
        _write(path, arrays)
        print(f"gradient: {len(context.samples)} samples in {time.monotonic() - began:.0f} s", flush=True)
    return _read(path)


def _warmed_up(testbed, schedule, source, seeds, along):
    """The block of LoRA that was trained, its results, and the rate: halved while a run diverges."""
    rank, start = source.rank, "gradient" if source.aligned else "random"
    modules = [module for layer in testbed.inventory.layers for module in layer.modules]
    sizes = {module.name: min(rank, module.in_features, module.out_features) for module in modules}
    parameters = sum(sizes[module.name] * (module.in_features + module.out_features) for module in modules)
    arm = Arm(
        name="warm-up", budget=f"r={rank}", sizes={"lora": sizes}, scale=SCALE, parameters=parameters, start=start
    )
    directions = {name: torch.as_tensor(pair.right) for name, pair in along.subspace.items()}
    short = attrs.evolve(schedule, steps=steps_of(schedule, source.share), warmup=0, judged=256)
    rate = source.rate
    for _ in range(HALVINGS):
        jobs = [Job(arm=arm, rate=rate, seed=WARM_SEED + seed, schedule=short, setting="warm-up") for seed in seeds]
        with untouched(testbed.model):
            block = Block.of(testbed, jobs, directions)
            results = Training(testbed=testbed, block=block, room=Room(len(jobs))).run()
        if not any(result.diverged for result in results):
            return block, results, rate
        rate /= 2
    raise SystemExit(f"warm-ups diverge from {rate:g} on")


def _updates(block, at):
    """Singular vectors and values of s · B A of one arm."""
    arrays = {}
    slots, values = block.parameters.slots, block.parameters.values
    for _, name in block.places:
        a, b = (slots[f"{name} {part}"].of(values)[at] for part in (A, B))
        update = decomposed(a, SCALE * b)
        arrays[f"{name}:left"], arrays[f"{name}:right"] = update.vectors
        arrays[f"{name}:strengths"] = update.values
    return arrays


def _path(folder, name):
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"


def _write(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def _read(path):
    with np.load(path) as arrays:
        parts = {}
        for key in arrays.files:
            module, part = key.rsplit(":", 1)
            parts.setdefault(part, {})[module] = arrays[key]
    subspace = {module: Pair(left, parts["right"][module]) for module, left in parts["left"].items()}
    if not all(math.isfinite(float(pair.left.sum() + pair.right.sum())) for pair in subspace.values()):
        raise SystemExit(f"{path} is not finite")
    return Found(subspace, parts.get("strengths", {}), parts.get("score", {}))
