"""What the study's runs say: what the sweep's rates cost, and every arm against uniform, over budgets and tasks.

    python tests/benchmarks/study/summary.py DIR [DIR …]

A DIR is what ``run.py`` was given as ``--out``. Arms are judged at the rate that the sweep found, halved where a seed
fell off the cliff there, as `compare` does; seeds that an arm lacks are left out for uniform too.
"""

import json
import statistics
import sys
from pathlib import Path

import attrs
import numpy as np

from layerlens_core.comparison.jobs.store import RESULT_SCHEMA, SETTING_SCHEMA, VERSION
from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.comparison.judging.statistics import Pair, holm, pooled
from layerlens_core.files import documents
from layerlens_core.values.comparison import Result, Setting


def read(folders):
    """By task: the setting, whole runs by (arm, budget, rate, seed), and the sweeps' points by (arm, budget)."""
    found = {}
    for folder in folders:
        for task in sorted(path for path in folder.iterdir() if (path / "results.jsonl").exists()):
            setting = documents.read(task / "compare" / "setting.json", Setting, schema=SETTING_SCHEMA, version=VERSION)
            rows = {}
            for line in (task / "results.jsonl").read_text().splitlines():
                row = json.loads(line)
                rows[row["arm"], row["budget"], row["rate"], row["seed"], row["steps"]] = row
            runs, curves = found.setdefault(task.name, (setting, {}, {}))[1:]
            whole = max(row["steps"] for row in rows.values())
            results = {}
            for (arm, budget, rate, seed, steps), row in rows.items():
                path = task / "compare" / "results" / f"{row['job']}.json"
                if steps == whole and path.exists():
                    if row["job"] not in results:
                        results[row["job"]] = documents.read(path, Result, schema=RESULT_SCHEMA, version=VERSION)
                    runs[arm, budget, rate, seed] = results[row["job"]], row["parameters"]
            for line in (task / "curves.jsonl").read_text().splitlines():
                curve = json.loads(line)
                curves[tuple(curve["arm"].rsplit(" ", 1))] = curve
    return found


def judged(runs, curve, labels, key):
    """The rate of an arm, and its runs by seed: the sweep's, halved while a seed falls off."""
    rate, least = curve["rate"], min(p["loss"] for p in curve["points"] if p["loss"] is not None)
    for _ in range(4):
        here = {seed: run for (arm, budget, at, seed), (run, _) in runs.items() if (arm, budget, at) == (*key, rate)}
        if here and all(run.loss(labels) < least for run in here.values()):
            return rate, here
        rate /= 2
    return None, {}


def rates_table(tasks):
    """What the sweep's choice costs against the best of whole runs of seed 0."""
    print("| task | r | chosen | best of whole runs | NLL at the chosen | costs | steps of a run |")
    print("|---|---|---|---|---|---|---|")
    costs = []
    for name, (setting, runs, curves) in tasks.items():
        for (arm, budget), curve in sorted(curves.items(), key=lambda item: int(item[0][1][2:])):
            grid = {
                at: run.loss(setting.labels)
                for (a, b, at, seed), (run, _) in runs.items()
                if (a, b, seed) == (arm, budget, 0)
            }
            if arm != UNIFORM or len(grid) < 4:
                continue
            best, chosen = min(grid, key=grid.get), curve["rate"]
            costs.append(grid[chosen] / grid[best] - 1)
            share = sum(point["steps"] for point in curve["points"]) / curve["steps"]
            numbers = f"{chosen:g} | {best:g} | {grid[chosen]:.4f} | {costs[-1]:.1%} | {share:.2f}"
            print(f"| {name} | {budget[2:]} | {numbers} |")
    within = sum(cost <= 0.01 for cost in costs)
    print(f"median {statistics.median(costs):.2%}, largest {max(costs):.1%}, {within} of {len(costs)} within 1 %\n")


def pairs_of(arm, setting, runs, curves):
    """An arm beside uniform at each budget where the two differ, all with the same seeds."""
    found = []
    for budget in sorted({budget for a, budget in curves if a == arm}, key=lambda text: int(text[2:])):
        _, base = judged(runs, curves[UNIFORM, budget], setting.labels, (UNIFORM, budget))
        _, mine = judged(runs, curves[arm, budget], setting.labels, (arm, budget))
        seeds = sorted(base.keys() & mine.keys())
        if seeds and any(mine[seed].losses != base[seed].losses for seed in seeds):
            losses, theirs = (np.array([each[seed].losses for seed in seeds]) for each in (mine, base))
            found.append(Pair(arm=losses, base=theirs, weights=np.array(setting.labels, float), relative=True))
    if any(len(pair.arm) > 1 for pair in found):  # of one seed nothing is known of how seeds differ
        found = [pair for pair in found if len(pair.arm) > 1]
    least = min((len(pair.arm) for pair in found), default=0)
    return [attrs.evolve(pair, arm=pair.arm[:least], base=pair.base[:least]) for pair in found]


def arms_table(tasks):
    """Every arm against uniform: change of NLL, negative is better, by task and over all tasks with several seeds."""
    print("| arm | " + " | ".join(tasks) + " | all | p | p (Holm) |")
    print("|---|" + "---|" * (len(tasks) + 3))
    rows = []
    for arm in sorted({arm for _, runs, _ in tasks.values() for arm, *_ in runs} - {UNIFORM}):
        cells, several = [], []
        for setting, runs, curves in tasks.values():
            pairs = pairs_of(arm, setting, runs, curves)
            cells.append(told(pooled([pairs])) + f", {len(pairs)} × {len(pairs[0].arm)}" if pairs else "–")
            several += [pairs] if pairs and len(pairs[0].arm) > 1 else []
        rows.append((arm, cells, pooled(several) if several else None))
    corrected = holm([1.0 if overall is None else overall.p for *_, overall in rows])
    for (arm, cells, overall), p in zip(rows, corrected, strict=True):
        said = "– | –" if overall is None else f"{told(overall)} | {overall.p:.3f}"
        print(f"| {arm} | {' | '.join(cells)} | {said} | {p:.3f} |")


def told(difference):
    return f"{difference.estimate:+.2%} ({difference.low:+.2%} to {difference.high:+.2%})"


if __name__ == "__main__":
    read_all = read([Path(folder) for folder in sys.argv[1:]])
    rates_table(read_all)
    arms_table(read_all)
