"""What short runs say of whole ones: uniform LoRA at every rate, for shares of the steps, by batches of several sizes.

    python tests/benchmarks/study/short_runs.py TASK --models DIR --data DIR --out DIR --device cuda [--compile]

Every run is a line of ``OUT/TASK/runs.jsonl``. A search of rates is then judged without training anything again
(`rates_offline.py`).
"""

import json
import time

import attrs
from begin import begun, parser_of

import layerlens_core as ll
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rates import FEWEST_STEPS, JUDGED
from layerlens_core.comparison.setting import setting_of
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.values.comparison import Job

GRID = (6.25e-4, 1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)
#: Shares of the whole run's samples, and what its batch is divided by.
SHAPES = ((1 / 16, 1), (1 / 16, 2), (1 / 16, 4), (1 / 8, 1), (1 / 8, 2), (1 / 8, 4), (1 / 4, 1), (1 / 4, 4))


def main(arguments):
    task, out = begun(arguments)
    profile = ll.profile(task.model, task.training[:64], metrics=("weight_gradient",), task=task.kind)
    plan = ll.allocate(profile, budget="params=r=4", strategy="uniform")
    budgets = tuple(f"r={rank}" for rank in arguments.ranks.split(","))
    arms, _ = make_arms(("uniform",), budgets, profile=profile, plan=plan)
    testbed = prepare_testbed(task.model, task.kind, task.training, task.held_out, compile=arguments.compile)
    setting = setting_of(testbed)
    store = ResultStore.open(out, setting)
    schedule = CompareOptions(epochs=task.epochs, batch=task.batch).schedule(len(task.training))
    schedules = [(attrs.evolve(shape, warmup=round(arguments.warmup * shape.steps)), *told) for shape, *told in (
        *((_shaped(schedule, *shape), *shape) for shape in SHAPES if arguments.short),
        *([(schedule, 1, 1)] if arguments.whole else []),
    )]  # fmt: skip
    for seed in range(arguments.seeds):
        for shape, share, divisor in schedules:
            began = time.monotonic()
            jobs = [
                Job(arm=arm, rate=rate, seed=seed, schedule=shape, setting=setting.id) for arm in arms for rate in GRID
            ]
            results = run_local(store, jobs, Runner(testbed=testbed))
            with (out / "runs.jsonl").open("a") as kept:
                for result in results:
                    row = {
                        "task": arguments.task, "budget": result.job.arm.budget, "rate": result.job.rate, "seed": seed,
                        "share": share, "divisor": divisor, "steps": shape.steps, "warmup": shape.warmup,
                        "loss": result.loss(setting.labels),
                    }  # fmt: skip
                    kept.write(json.dumps(row) + "\n")
            print(f"{share:g} of the samples, batch / {divisor}: {time.monotonic() - began:.0f} s", flush=True)


def _shaped(schedule, share, divisor):
    """A share of the samples, by smaller batches and so more steps."""
    short = schedule.shortened(share, fewest=FEWEST_STEPS, judged=JUDGED)
    return attrs.evolve(short, steps=short.steps * divisor, batch=schedule.batch // divisor)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--ranks", default="1,2,4,8,16")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--warmup", type=float, default=0.0, help="share of the steps")
    parser.add_argument("--short", action="store_true", help="train the short runs")
    parser.add_argument("--whole", action="store_true", help="train the whole runs")
    main(parser.parse_args())
