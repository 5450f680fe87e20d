"""One task of the study: profile, make the arms, find rates, train everything, and write every run as a line of JSON.

    python tests/benchmarks/study/run.py gsm8k --models DIR --data DIR --out DIR --device cuda [--compile]

``--grid`` trains uniform at every rate of a grid in full, for what the sweep's choice costs; ``--seeds 6
--first-seed 3`` trains the fourth to the sixth seed alone. Results lie in ``OUT/TASK/compare`` too, so that a call that
was cut off goes on.
"""

import json
import time

import attrs
import torch
from arms import variant
from begin import begun, parser_of

import layerlens_core as ll
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rates import find_rates
from layerlens_core.comparison.setting import setting_of
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import prepare_testbed
from layerlens_core.comparison.whole_runs import at_found_rates, at_given_rates

GRID = (1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2)
METRICS = ("weight_gradient", "fisher", "gora", "loss_change")


def main(arguments):
    torch.manual_seed(0)
    began = time.monotonic()
    task, out = begun(arguments)
    print(f"{len(task.training)} training, {len(task.held_out)} held out", flush=True)
    arms = arms_of(task, arguments, out)
    testbed = prepare_testbed(task.model, task.kind, task.training, task.held_out, compile=arguments.compile)
    setting = setting_of(testbed)
    store = ResultStore.open(out, setting)
    options = CompareOptions(epochs=task.epochs, batch=task.batch, seeds=arguments.seeds)
    schedule = options.schedule(len(task.training))

    def done(stage, jobs):
        start = time.monotonic()
        results = run_local(store, jobs, Runner(testbed=testbed))
        with (out / "results.jsonl").open("a") as kept:
            kept.writelines(json.dumps(row_of(arguments.task, result, setting.labels)) + "\n" for result in results)
        took, steps = time.monotonic() - start, jobs[0].schedule.steps if jobs else 0
        print(f"{stage}: {len(jobs)} runs of {steps} steps in {took:.0f} s", flush=True)
        return results

    new_head = bool(testbed.inventory.heads)
    curves = find_rates(arms, schedule, setting.id, lambda jobs: done("rates", jobs), setting.labels, new_head=new_head)
    (out / "curves.jsonl").write_text("".join(json.dumps(attrs.asdict(curve)) + "\n" for curve in curves.values()))
    for key, curve in curves.items():
        print(f"{key}: {curve.rate:g} for {curve.share:.2f} of a run", flush=True)
    if arguments.grid:
        uniform = [arm for arm in arms if arm.name == "uniform"]
        at_given_rates(uniform, GRID, schedule, setting, attrs.evolve(options, seeds=1), done)
    for seed in range(
        arguments.first_seed, arguments.seeds
    ):  # one after the other, so that what is cut off has whole seeds
        at_found_rates(arms, curves, schedule, setting, attrs.evolve(options, seeds=1, seed=seed), done)
    print(f"all in {time.monotonic() - began:.0f} s", flush=True)


def arms_of(task, arguments, out):
    """The arms at all budgets, from a profile of the task."""
    profile = ll.profile(
        task.model, task.training[: arguments.profiled], metrics=tuple(arguments.metrics.split(",")), task=task.kind
    )
    profile.save(out)
    plan = ll.allocate(
        profile, budget="params=r=4", strategy=arguments.strategy, weights=weights(profile), abstain=False
    )
    plan.save(out)
    print(f"profiled: stability {profile.module_stability} {profile.stability}", flush=True)
    budgets = tuple(f"r={rank}" for rank in arguments.ranks.split(","))
    arms, dropped = make_arms(tuple(arguments.arms.split(",")), budgets, profile=profile, plan=plan)
    for each in dropped:
        print(f"dropped: {each.name} {each.budget}: {each.reason}", flush=True)
    names = [name for name in arguments.variants.split(",") if name]
    return (*arms, *(variant(profile, name, budget) for name in names for budget in budgets if budget != "r=1"))


def row_of(task, result, labels):
    """A run as a line."""
    job, right = result.job, result.right
    return {
        "task": task, "arm": job.arm.name, "budget": job.arm.budget, "rate": job.rate, "seed": job.seed,
        "steps": job.schedule.steps, "parameters": job.arm.parameters, "loss": result.loss(labels),
        "accuracy": sum(right) / len(right) if right else None, "job": job.id, "seconds": result.seconds,
    }  # fmt: skip


def weights(profile):
    return {score.metric: float(score.metric == profile.scores[0].metric) for score in profile.scores}


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--strategy", default="tempered")
    parser.add_argument("--arms", default="uniform,plan,metric:gora,metric:loss_change,threshold,top-half,shuffled")
    parser.add_argument("--ranks", default="1,2,4,8,16")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--profiled", type=int, default=256)
    parser.add_argument("--variants", default="", help="of arms.py, comma-separated")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--grid", action="store_true")
    main(parser.parse_args())
