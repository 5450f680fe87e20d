"""Profiles that are killed by SIGKILL and resumed. test_checkpoint.py starts it: what forks must have no threads.

    PYTHONPATH=tests python tests/scripts/killed_runs.py OUT RUNS

Prints a JSON list with, for each run, whether it was killed, how much was done by then, and whether the numbers are
those of an uninterrupted run to the last bit.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch

import zoo
from layerlens_core.files.run import CHECKPOINT
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.engine import measure as engine
from layerlens_core.profiling.engine.recorder import Recorder
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.values.statistics import STATISTICS
from zoo.profiled import unlabelled

SAMPLES = 17


def build():
    """Two layers, as transformers initialises them."""
    return zoo.find("llama").with_config(num_hidden_layers=2, num_key_value_heads=4).build(spread=None)


def profile(model, samples, needs, *, run=None, resume=False, enough=None, **options):
    return engine.measure(
        model,
        inspect(model).modules,
        samples,
        "causal-lm",
        Settings(needs=needs, micro_batch=4, rank=4, **options),
        Execution(run=run, resume=resume, seconds=0),
        enough=enough,
    )


def same(one, other):
    """Whether two profiles are the same to the last bit."""
    tables, others = one.ledger.tables(), other.ledger.tables()
    return (
        one.statistics == other.statistics
        and one.loss == other.loss
        and one.unscored == other.unscored
        and tables.keys() == others.keys()
        and all(table.tobytes() == others[name].tobytes() for name, table in tables.items())
        and one.subspace.keys() == other.subspace.keys()
        and all(
            ours.tobytes() == theirs.tobytes()
            for name in one.subspace
            for ours, theirs in zip(one.subspace[name], other.subspace[name], strict=True)
        )
    )


class Moments:
    """Counts what happens, and kills this process at a given moment: in a forward or backward pass, or in a file."""

    def __init__(self, model):
        self.count, self.fatal = 0, None
        for layer in model.model.layers:
            layer.register_forward_hook(lambda *_: self.happens())
        Recorder.receive = self.counting(Recorder.receive)
        for name in ("fsync", "replace"):
            setattr(os, name, self.counting(getattr(os, name)))

    def counting(self, function):
        def call(*arguments, **options):
            self.happens()
            result = function(*arguments, **options)
            self.happens()
            return result

        return call

    def happens(self):
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work, delay=None):
    """Run in a process of its own, killed after a delay in seconds. Whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the profile failed")
    return os.WIFSIGNALED(status)


def main(out, runs):
    torch.set_num_threads(1)
    model, samples = build(), unlabelled(SAMPLES)
    moments, seen = Moments(model), []
    kinds = [
        (tuple(name for name in STATISTICS if name != "spectrum"), {}),
        (tuple(STATISTICS), {"directions": True}),
        (("sample_norms",), {"stages": [4, 8], "enough": lambda ledger, _scored: ledger.samples == 8}),
    ]
    plain = []
    for needs, options in kinds:
        moments.count, began = 0, time.monotonic()
        result = profile(model, samples, needs, run=Path(out) / "plain", **options)
        plain.append((result, moments.count, time.monotonic() - began))
        shutil.rmtree(Path(out) / "plain")
    for number in range(runs):
        pick = random.Random(number)
        at = number % len(kinds)
        (needs, options), (expected, happened, seconds) = kinds[at], plain[at]
        run = Path(out) / str(number)
        killed = 0
        for attempt in range(1 + number % 2):  # some are killed twice
            moments.count, moments.fatal, delay = 0, None, None
            if number % 5 == 4:
                delay = pick.uniform(0, seconds)
            else:
                moments.fatal = pick.randint(1, happened // (1 + attempt))
            killed += in_child(partial(profile, model, samples, needs, run=run, resume=True, **options), delay)
        moments.fatal, done = None, (run / CHECKPOINT).exists()
        moments.count = 0
        resumed = profile(model, samples, needs, run=run, resume=True, **options)
        seen.append(
            {"killed": killed, "written": done, "rest": moments.count / happened, "same": same(expected, resumed)}
        )
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
