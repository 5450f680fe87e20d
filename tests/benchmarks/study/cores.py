"""Cores between frozen subspaces, and LoRA of as many parameters, each at its own best rate: a line of JSON a run.

    python tests/benchmarks/study/cores.py gsm8k --models DIR --data DIR --out DIR --device cuda [--compile]

Sources: ``warm-SHARE``, the update of LoRA after so many of the run's steps, which may name its rank, its rate and how
it starts (``warm-0.1:rank=16:rate=1e-2:aligned``), and with ``+continued`` cores that start as the update, with
``+sized`` as large as its energy says; ``gradient``; ``weights``; ``random``; ``lora``; and ``lora+SHARE``, with so
many more steps, at the rate of ``lora``. Every seed has a warm-up of its own; rates are found with seed 0. Results lie
in ``OUT/TASK/compare`` too, and subspaces in ``OUT/TASK/subspaces``, so that a call that was cut off goes on.
`cores_summary.py OUT …` makes the tables.
"""

import json
import time
from pathlib import Path
from typing import Any

import attrs
import torch
from begin import begun, parser_of
from cores_arms import budgets_of, core_arm, lora_arm
from cores_sources import Source
from cores_subspaces import gradient, steps_of, warm_ups

from layerlens_core.comparison.jobs.local import run_local
from layerlens_core.comparison.jobs.store import ResultStore
from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rates import find_rates
from layerlens_core.comparison.setting import setting_of
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.comparison.stacked.testbed import Testbed, prepare_testbed
from layerlens_core.comparison.whole_runs import HALVINGS, fell_off
from layerlens_core.values.comparison import Job, Schedule, Setting

SOURCES = "lora,lora+0.05,lora+0.1,lora+0.2,warm-0.05,warm-0.1,warm-0.2,gradient,weights,random"
BUDGETS, MORE = "1/16,1/8,1/4,1/2,1,2", "4"
#: Of --small: samples held out, tokens a sample, samples a step, steps.
HELD_OUT, TOKENS, BATCH, STEPS = 8, 16, 2, 3


@attrs.define(eq=False)
class Study:
    """What all stages have.

    known: digests of the jobs whose lines are written.
    """

    arguments: Any
    out: Path
    testbed: Testbed
    setting: Setting
    schedule: Schedule
    store: ResultStore
    runner: Runner
    known: set

    def done(self, stage, jobs):
        """Results of jobs, whose lines are appended as they end."""
        if not jobs:
            return []
        began, missing = time.monotonic(), len(self.store.missing(jobs))
        results = run_local(self.store, jobs, self.runner, progress=lambda result: self.keep(stage, result))
        for result in results:
            self.keep(stage, result)
        steps = sorted({job.schedule.steps for job in jobs})
        took = time.monotonic() - began
        print(f"{stage}: {missing} of {len(jobs)} runs of {steps} steps in {took:.0f} s", flush=True)
        return results

    def keep(self, stage, result):
        """Append a run's line, unless it is there."""
        job, right = result.job, result.right
        if job.id in self.known:
            return
        self.known.add(job.id)
        row = {
            "task": self.arguments.task, "stage": stage, "arm": job.arm.name, "budget": job.arm.budget,
            "subspace": job.arm.subspace, "parameters": job.arm.parameters, "rate": job.rate, "seed": job.seed,
            "steps": job.schedule.steps, "loss": result.loss(self.setting.labels),
            "accuracy": sum(right) / len(right) if right else None, "seconds": result.seconds, "peak": result.peak,
            "stacked": result.stacked, "job": job.id,
        }  # fmt: skip
        with (self.out / "results.jsonl").open("a") as kept:
            kept.write(json.dumps(row) + "\n")


def main(arguments):
    torch.manual_seed(0)
    began = time.monotonic()
    sources = arguments.sources.split(",")
    if any(source.startswith("lora+") for source in sources) and "lora" not in sources:
        raise SystemExit("lora+SHARE trains at the rate of lora, so name lora among the sources too")
    study, made, scores = begin(arguments)
    arms = {seed: arms_of(study, sources, seed, made, scores) for seed in made}
    curves = find_rates(
        [arm for arm in arms[0] if "lora+" not in arm.name], study.schedule, study.setting.id,
        lambda jobs: study.done("rates", jobs), study.setting.labels, new_head=bool(study.testbed.inventory.heads),
    )  # fmt: skip
    (study.out / "curves.jsonl").write_text("".join(json.dumps(attrs.asdict(c)) + "\n" for c in curves.values()))
    for key, curve in curves.items():
        print(f"{key}: {curve.rate:g} for {curve.share:.2f} of a run", flush=True)
    train(study, {seed: arms[seed] for seed in range(arguments.first_seed, arguments.seeds)}, curves)
    print(f"all in {time.monotonic() - began:.0f} s", flush=True)


def begin(arguments):
    """The study, its subspaces by seed and source, and GoRA's importance by module."""
    task, out = begun(arguments)
    batch, steps = task.batch, arguments.steps
    if arguments.small:
        training, held_out = ([_cut(sample) for sample in part] for part in (task.training, task.held_out[:HELD_OUT]))
        task, batch, steps = attrs.evolve(task, training=training, held_out=held_out), BATCH, STEPS
    print(f"{len(task.training)} training, {len(task.held_out)} held out", flush=True)
    testbed = prepare_testbed(task.model, task.kind, task.training, task.held_out, compile=arguments.compile)
    setting = setting_of(testbed)
    schedule = CompareOptions(epochs=task.epochs, steps=steps, batch=batch).schedule(len(task.training))
    arguments.subspaces = arguments.subspaces or out / "subspaces"
    along = gradient(testbed, arguments)
    sources = {name.partition("+")[0]: Source.of(name) for name in arguments.sources.split(",") if name[:4] != "lora"}
    made = {seed: {} for seed in sorted({0, *range(arguments.first_seed, arguments.seeds)})}
    for name, source in sorted(sources.items()):
        if source.share:
            for seed, each in warm_ups(testbed, schedule, source, list(made), along, arguments).items():
                made[seed][name] = each
        elif name == "gradient":
            made = {seed: {**known, name: along} for seed, known in made.items()}
    named = {
        sources[name].recipe(seed, arguments.profiled): each
        for seed, known in made.items()
        for name, each in known.items()
    }
    runner = Runner(
        testbed=testbed,
        subspaces={name: each.subspace for name, each in named.items()},
        strengths={name: each.strengths for name, each in named.items()},
    )
    lines = out / "results.jsonl"
    known = {json.loads(line)["job"] for line in lines.read_text().splitlines()} if lines.exists() else set()
    study = Study(arguments, out, testbed, setting, schedule, ResultStore.open(out, setting), runner, known)
    return study, made, along.scores


def arms_of(study, sources, seed, made, scores):
    """The arms of a seed, at all budgets."""
    arguments, testbed = study.arguments, study.testbed
    arms = []
    for source in sources:
        if source.startswith("lora"):
            budgets = budgets_of(f"{arguments.budgets},{arguments.more_budgets}")
            arms += [lora_arm(testbed, source, budget, scores) for budget in budgets]
            continue
        found = made[seed].get(source.partition("+")[0])
        for budget in budgets_of(arguments.budgets):
            arms.append(core_arm(testbed, source, budget, seed, found, arguments.profiled))
    return [arm for arm in arms if any(arm.sizes.values())]


def train(study, arms, curves):
    """Every arm with every seed, one seed after the other, so that what is cut off has whole seeds.

    Where a run falls off the cliff that no short run showed, all of the arm's seeds train again at half the rate.
    """
    rates = {key: curve.rate for key, curve in curves.items()}
    left = {arm.key for of_seed in arms.values() for arm in of_seed}
    for _ in range(HALVINGS + 1):
        fallen = set()
        for seed, of_seed in arms.items():
            jobs = [job_of(study, arm, rates[_searched(arm)], seed) for arm in of_seed if arm.key in left]
            fallen |= {
                result.job.arm.key
                for result in study.done(f"seed {seed}", jobs)
                if fell_off(result, curves[_searched(result.job.arm)], study.setting.labels)
            }
        if not fallen:
            return
        halved = {_searched(arm) for of_seed in arms.values() for arm in of_seed if arm.key in fallen}
        rates |= {key: rates[key] / 2 for key in halved}
        left = {arm.key for of_seed in arms.values() for arm in of_seed if _searched(arm) in halved}
        print(f"half the rate for {', '.join(sorted(left))}", flush=True)


def job_of(study, arm, rate, seed):
    """A whole run, with as many more steps as its name says."""
    _, plus, share = arm.name.partition("lora+")
    more = steps_of(study.schedule, float(share)) if plus else 0
    schedule = attrs.evolve(study.schedule, steps=study.schedule.steps + more)
    return Job(arm=arm, rate=rate, seed=seed, schedule=schedule, setting=study.setting.id)


def _searched(arm):
    """The key of the arm whose rate it has."""
    return attrs.evolve(arm, name="lora").key if arm.name.startswith("lora") else arm.key


def _cut(sample):
    """The last tokens of a sample."""
    return {key: value[-TOKENS:] if value.dim() else value for key, value in sample.items()}


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--sources", default=SOURCES)
    parser.add_argument("--budgets", default=BUDGETS, help="of cores and LoRA")
    parser.add_argument("--more-budgets", default=MORE, help="of LoRA alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--profiled", type=int, default=512, help="samples of the mean gradient")
    parser.add_argument("--steps", type=int, default=None, help="of a whole run, instead of three epochs")
    parser.add_argument("--subspaces", default="", help="where they are kept; by default in OUT/TASK")
    parser.add_argument("--small", action="store_true", help="a few short samples and steps, to see that it works")
    main(parser.parse_args())
