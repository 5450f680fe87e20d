"""A comparison whose training is pretended: a program that tests run, several at once, and kill.

    PYTHONPATH=tests python tests/scripts/comparing.py RUN [--jobs N] [--seconds S] [--log FILE] [--local]

Results are those of `pretended`, whoever computes them. Each job that is begun is a line in the log.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from layerlens_core.comparison.jobs.join import run_joined
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.runner import Runner
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.values.comparison import Arm, Job, Result, Schedule, Setting

SETTING = Setting(
    model="a" * 16,
    task="causal-lm",
    data="b" * 16,
    held_out="c" * 16,
    labels=(3, 1, 2),
    precision="float32",
    versions={"torch": "2.13.0"},
)


def arm(size: int, name: str = "uniform") -> Arm:
    """Every module at one rank."""
    return Arm(name=name, budget=f"r={size}", sizes={"lora": {"layers.0.q": size}}, scale=2.0, parameters=64 * size)


def some_jobs(count: int, setting: Setting = SETTING) -> list[Job]:
    """Jobs of which every four can be stacked."""
    return [
        Job(
            arm=arm(1 + number % 4),
            rate=1e-3,
            seed=number // 4,
            schedule=Schedule(steps=10, batch=4),
            setting=setting.id,
        )
        for number in range(count)
    ]


def pretended(job: Job) -> Result:
    """What a job gives: figures that depend on its record alone; some diverge."""
    draw = random.Random(job.id)
    if draw.random() < 0.1:
        return Result(job=job, diverged=True)
    return Result(job=job, losses=tuple(draw.random() for _ in SETTING.labels), training=(2.0, 1.0))


def pretending(seconds: float = 0.0, begun: Callable[[Job], object] = lambda job: None) -> Runner:
    """A runner that takes so long for every job; ``begun`` is called with all of a block first."""

    def run(jobs: Sequence[Job]) -> Iterator[Result]:
        for job in jobs:
            begun(job)
        for job in jobs:
            time.sleep(seconds)
            yield pretended(job)

    return run


def logging_to(path: Path) -> Callable[[Job], object]:
    """Append a line for each job, whole, whoever else does."""

    def log(job: Job) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{os.getpid()} {job.id}\n".encode())
        os.close(descriptor)

    return log


def compare(run: Path, jobs: int, seconds: float, log: Path, *, local: bool = False) -> list[Result]:
    """The comparison, in this process alone or joined to others."""
    store = ResultStore.open(run, SETTING)
    runner = pretending(seconds, logging_to(log))
    if local:
        return run_local(store, some_jobs(jobs), runner)
    return run_joined(store, some_jobs(jobs), runner, block=3)


def content(run: Path) -> dict[str, bytes]:
    """What a comparison leaves by name, without its queue: hidden files too."""
    root = run / "compare"
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if "queue" not in path.parts}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("--local", action="store_true")
    given = parser.parse_args()
    compare(given.run, given.jobs, given.seconds, given.log, local=given.local)
    sys.exit(0)
