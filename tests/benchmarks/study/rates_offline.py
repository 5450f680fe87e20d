"""What the search of rates costs against the best whole run, told by runs that were trained: nothing is trained here.

    python tests/benchmarks/study/rates_offline.py

The search (`layerlens_core.comparison.rates.find_rates`) asks for short runs of uniform LoRA; `results/*.jsonl` holds
their losses, as well as those of whole runs. A rate that nobody trained counts as diverged, and is said.
"""

import json
import math
import statistics
from pathlib import Path

from layerlens_core.comparison.rates import find_rates
from layerlens_core.values.comparison import Arm, Result, Schedule

RESULTS = Path(__file__).parent / "results"
#: Files of runs by task, and whether its head is new.
TASKS = {
    "gsm8k": (("gsm8k.jsonl", "short-runs.jsonl"), False),
    "intents": (("intents.jsonl",), False),
    "stdlib": (("stdlib-2.jsonl",), False),
    "labels": (("short-runs.jsonl",), True),
    "mpnet": (("short-runs.jsonl",), True),
}
#: Steps of a schedule whose sixteenth and eighth are whole numbers; rows tell shares.
STEPS, BATCH = 1600, 64


def losses_of(task, files):
    """By seed, the losses by (budget, share of the samples, divisor of the batch, rate)."""
    rows = [json.loads(line) for file in files for line in (RESULTS / file).read_text().splitlines()]
    rows = [row for row in rows if row.get("task", task) == task and row.get("arm", "uniform") == "uniform"]
    whole = max(row["steps"] for row in rows)
    found = {}
    for row in rows:
        share = row.get("share") or _share(row["steps"] / whole)
        loss = math.inf if row["loss"] is None else row["loss"]
        found.setdefault(row["seed"], {})[row["budget"], share, row.get("divisor", 1), row["rate"]] = loss
    return {seed: losses for seed, losses in found.items() if any(share < 1 for _, share, _, _ in losses)}


def _share(part):
    return min((1 / 16, 1 / 8, 1.0), key=lambda share: abs(math.log(part / share)))


def searched(budget, losses, new_head, missing):
    """How the search finds a rate from these losses."""

    def run(jobs):
        for job in jobs:
            schedule = job.schedule
            share = schedule.steps * schedule.batch / (STEPS * BATCH)
            key = job.arm.budget, share, BATCH // schedule.batch, job.rate
            if key not in losses:
                missing.append(f"{job.rate:g} at {share:g}")
            loss = losses.get(key, math.inf)
            yield Result(job=job, losses=(loss,) if math.isfinite(loss) else (), diverged=not math.isfinite(loss))

    arm = Arm(name="uniform", budget=budget, sizes={"lora": {"": int(budget[2:])}}, scale=2, parameters=1)
    schedule = Schedule(steps=STEPS, batch=BATCH)
    return find_rates([arm], schedule, "", run, (1,), new_head=new_head)[arm.key]


def told():
    """By task, seed and budget: the curve, the whole runs' losses by rate, and what nobody trained."""
    for task, (files, new_head) in TASKS.items():
        for seed, losses in losses_of(task, files).items():
            for budget in sorted({key[0] for key in losses}, key=lambda text: int(text[2:])):
                whole = {key[3]: loss for key, loss in losses.items() if key[0] == budget and key[1] == 1}
                missing = []
                curve = searched(budget, losses, new_head, missing)
                if len(whole) >= 4 and curve.rate in whole:
                    yield (task, seed, budget), curve, whole, missing


def main():
    costs = []
    print("| task | seed | r | chosen | best of whole runs | costs | samples of a run | not trained |")
    print("|---|---|---|---|---|---|---|---|")
    for (task, seed, budget), curve, whole, missing in told():
        best = min(whole, key=whole.get)
        costs.append(whole[curve.rate] / whole[best] - 1)
        numbers = f"{curve.rate:g} | {best:g} | {costs[-1]:.1%} | {curve.share:.2f} | {', '.join(missing)}"
        print(f"| {task} | {seed} | {budget[2:]} | {numbers} |")
    within = sum(cost <= 0.01 for cost in costs)
    print(f"median {statistics.median(costs):.2%}, largest {max(costs):.1%}, {within} of {len(costs)} within 1 %")


if __name__ == "__main__":
    main()
