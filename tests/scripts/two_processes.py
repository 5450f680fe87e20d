"""Two processes that profile together, by gloo on the CPU; started by test_workers.py, once for all cases.

    RANK=… WORLD_SIZE=2 … PYTHONPATH=tests python tests/scripts/two_processes.py OUT [CASE …]

Each process leaves what it saw in OUT/RANK.pt: for each case what came of it, or the error.
"""

import copy
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

import zoo
from layerlens_core.errors import LayerLensError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.distributed.sharding import shard
from layerlens_core.profiling.distributed.workers import by_torchrun, joined
from layerlens_core.profiling.engine.checkpoint import Checkpoint
from layerlens_core.profiling.engine.measure import measure
from layerlens_core.profiling.engine.schedule import arranged
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.profile import profile
from layerlens_core.values.statistics import STATISTICS
from zoo.profiled import unlabelled


def llama(*, tied=False):
    return zoo.find("llama").with_config(num_hidden_layers=4, tie_word_embeddings=tied).build(spread=0.2)


def classifier():
    return zoo.find("bert-classifier").with_config(num_hidden_layers=4, num_labels=2).build(spread=0.2)


def draw(count, *, labelled=False):
    samples = unlabelled(count)
    if labelled:
        samples = [{**sample, "labels": torch.tensor(at % 2)} for at, sample in enumerate(samples)]
    return samples


def gather(model, samples, task="causal-lm", **options):
    """Measured by these workers, if any; options: of the settings, and of the execution."""
    execution = {
        name: options.pop(name) for name in ("workers", "run", "resume", "seconds", "progress") if name in options
    }
    options = {"needs": tuple(STATISTICS), "directions": True, "rank": 4, "micro_batch": 4, **options}
    return measure(model, inspect(model).modules, samples, task, Settings(**options), Execution(**execution))


#: By case: model, number of samples, and options of `gather`. Each is sharded as well.
CASES = {
    "llama": (llama, 21, {}),
    "tied": (lambda: llama(tied=True), 21, {}),
    "groups of three in passes of two": (llama, 13, {"group_size": 3, "micro_batch": 2}),
    "one by one": (llama, 5, {"micro_batch": 1, "group_size": 1}),
    "fewer pieces than processes": (llama, 2, {}),
    "classifier": (classifier, 12, {"task": "sequence-classification"}),
    "no group norms": (llama, 12, {"needs": ("sample_norms",), "directions": False}),
}


def run_case(name, **more):
    build, count, options = CASES[name]
    return gather(build(), draw(count, labelled=build is classifier), **{**options, **more})


def run_sharded(name, workers, **more):
    build, count, options = CASES[name]
    model = build()
    shard(model, inspect(model), torch.device("cpu"), workers)
    return gather(model, draw(count, labelled=build is classifier), workers=workers, **options, **more)


def profiled(workers, *, sharded=False, **options):
    """All of `profile`; and what training keeps, which must not take gathered weights for activations."""
    model = llama()
    if sharded:
        shard(model, inspect(model), torch.device("cpu"), workers)
    metrics = ("fisher", "weight_gradient") if sharded else ("fisher", "weight_gradient", "proxy_eval", "loss_change")
    found = profile(model, draw(40), metrics=metrics, spectrum=True, micro_batch=4, workers=workers, **options)
    return {
        "scores": {s.metric: dict(s.values) for s in found.scores}, "activations": found.activations,
        "architecture": found.inventory.architecture, "stability": dict(found.stability), "samples": found.samples,
        "settings": dict(found.settings), "task": found.task,
    }  # fmt: skip


def other_model(workers):
    model = llama()
    if workers.rank == 1:
        with torch.no_grad():
            model.model.layers[2].mlp.up_proj.weight += 1e-3
    return gather(model, draw(8), workers=workers)


def not_finite(workers, *, sharded=False):
    """A token in the last piece of work, the second process's, spoils its loss."""
    model, samples = llama(), draw(16)
    with torch.no_grad():
        model.model.embed_tokens.weight[0] = float("inf")
    lengths = {unit: max(len(s["input_ids"]) for s in samples[2 * unit : 2 * unit + 2]) for unit in range(8)}
    samples[2 * arranged(lengths, 8)[-1]]["input_ids"][0] = 0
    if sharded:
        shard(model, inspect(model), torch.device("cpu"), workers)
    return gather(model, samples, workers=workers)


class Interrupted(Exception):
    pass


def interrupted(run, workers, pieces):
    """Break off after so many pieces, by process. All is written down."""
    written, real = [], Checkpoint.offer

    def offer(self, state):
        real(self, state)
        written.append(1)
        if len(written) == pieces[workers.rank]:
            raise Interrupted

    Checkpoint.offer = offer
    try:
        run()
    except Interrupted:
        pass
    finally:
        Checkpoint.offer = real
    workers.gather(None)


def out_of_memory_in_one(workers):
    """One process alone runs out of memory, and goes on with less."""
    model = llama()

    def refuse(module, args, output):
        if workers.rank == 1 and len(output) > 2:
            raise torch.OutOfMemoryError("out of memory")

    model.model.layers[1].mlp.register_forward_hook(refuse)
    return gather(model, draw(21), workers=workers)


def numbers(found):
    if not hasattr(found, "ledger"):
        return found
    return {
        "statistics": found.statistics, "unscored": found.unscored, "loss": found.loss, "samples": found.samples,
        "vectors": {name: [torch.from_numpy(side) for side in pair] for name, pair in found.subspace.items()},
    }  # fmt: skip


@contextmanager
def leaving(out, seen):
    try:
        yield
    finally:
        torch.save(seen, out / f"{os.environ['RANK']}.pt")


def main(out, *chosen):
    out = Path(out)
    torch.set_num_threads(1)
    seen = {}
    with leaving(out, seen), joined(by_torchrun()) as workers:
        cases = {name: lambda name=name: run_case(name, workers=workers) for name in CASES}
        cases |= {f"sharded {name}": lambda name=name: run_sharded(name, workers) for name in CASES}
        cases["profile"] = lambda: profiled(workers)
        cases["profile, sharded"] = lambda: profiled(workers, sharded=True)
        cases["profile, auto"] = lambda: profiled(workers, samples="auto")
        cases["out of memory in one"] = lambda: out_of_memory_in_one(workers)
        cases["another model"] = lambda: other_model(workers)
        cases["another data"] = lambda: gather(llama(), draw(8 + workers.rank), workers=workers)
        cases["another option"] = lambda: gather(llama(), draw(8), workers=workers, seed=workers.rank)
        cases["not finite"] = lambda: not_finite(workers)
        for name, run, pieces in (
            ("", partial(run_case, "llama", workers=workers, run=out / "two"), (2, 3)),
            ("sharded ", partial(run_sharded, "llama", workers, run=out / "sharded"), (2, 2)),
            ("by one ", partial(run_case, "llama", workers=workers, run=out / "one"), (2, 3)),
        ):
            cases[f"{name}interrupted"] = partial(interrupted, partial(run, seconds=0), workers, pieces)
            cases[f"{name}resumed"] = partial(run, resume=True)
        del cases["by one resumed"]
        cases["sharded not finite"] = lambda: not_finite(workers, sharded=True)
        cases = {
            name: case for name, case in cases.items() if name in chosen or (not chosen and "sharded not" not in name)
        }
        for name, case in cases.items():
            try:
                seen[name] = numbers(copy.deepcopy(case()))
            except LayerLensError as error:
                seen[name] = (type(error).__name__, str(error), error.told_by_another)
                if name.startswith("sharded"):
                    break  # the others wait for this process: it ends


if __name__ == "__main__":
    main(*sys.argv[1:])
