"""A comparison on a Ray cluster of two workers, started here: a program that tests run.

    PYTHONPATH=tests python tests/scripts/on_ray.py RUN [--failing]

Prints which processes ran trials, and the error where there was one.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from layerlens_core.comparison.jobs.ray import run_ray
from layerlens_core.comparison.jobs.runner import Runner
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.errors import LayerLensError, ModelError
from layerlens_core.values.comparison import Job, Result
from scripts.comparing import SETTING, logging_to, pretending, some_jobs


def failing(runner: Runner) -> Runner:
    """A runner that has no memory for the jobs of seed 1, but for the first."""

    def run(jobs: Sequence[Job]) -> Iterator[Result]:
        for result in runner(jobs):
            yield result
            if result.job.seed == 1:
                raise ModelError("no memory")

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--failing", action="store_true")
    given = parser.parse_args()
    log = given.run / "log"

    def make_runner() -> Runner:
        runner = pretending(0.5, logging_to(log))
        return failing(runner) if given.failing else runner

    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})
    store = ResultStore.open(given.run, SETTING)
    error, told = None, []
    try:
        run_ray(store, some_jobs(12), make_runner, block=2, resources={"cpu": 1}, progress=told.append)
    except LayerLensError as raised:
        error = str(raised)
    processes = sorted({line.split()[0] for line in log.read_text().splitlines()})
    print(json.dumps({"error": error, "told": len(told), "processes": processes}))
