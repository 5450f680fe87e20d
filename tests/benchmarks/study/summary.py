"""What the study's runs say: every arm against uniform, over budgets and tasks.

    python tests/benchmarks/study/summary.py DIR [DIR …]

A DIR is what ``run.py`` was given as ``--out``; where an arm is in several, the first counts. Arms are judged at the
rate that the sweep found, halved where a seed fell off the cliff there, as `compare` does; seeds that an arm lacks are
left out for uniform too. *alike* counts each task alike; *by precision* weighs each by the inverse of its squared
standard error (DerSimonian and Laird's random effects, with Hartung and Knapp's interval, no narrower than the plain
one): what to expect on another task. *These tasks* is their mean by precision itself, without a spread between tasks
(fixed effects): what these runs gained, which says little of other tasks.
"""

import json
import sys
from pathlib import Path

import attrs
import numpy as np
from scipy import stats

from layerlens_core.comparison.jobs.store import RESULT_SCHEMA, SETTING_SCHEMA, VERSION
from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.comparison.judging.statistics import Pair, holm, pooled
from layerlens_core.comparison.rate_search import Curve, Point
from layerlens_core.comparison.whole_runs import fell_off
from layerlens_core.files import documents
from layerlens_core.values.comparison import Result, Setting


def read(folders):
    """By task and folder: the setting, whole runs by (arm, budget, rate, seed), and curves by (arm, budget)."""
    found = {}
    for folder in folders:
        for task in sorted(path for path in folder.iterdir() if (path / "results.jsonl").exists()):
            setting = documents.read(task / "compare" / "setting.json", Setting, schema=SETTING_SCHEMA, version=VERSION)
            rows = {}
            for line in (task / "results.jsonl").read_text().splitlines():
                row = json.loads(line)
                rows[row["arm"], row["budget"], row["rate"], row["seed"], row["steps"]] = row
            curves = {}
            for line in (task / "curves.jsonl").read_text().splitlines():
                curve = json.loads(line)
                curves[tuple(curve["arm"].rsplit(" ", 1))] = curve
            whole = next(iter(curves.values()))["steps"]
            runs, results = {}, {}
            for (arm, budget, rate, seed, steps), row in rows.items():
                path = task / "compare" / "results" / f"{row['job']}.json"
                if steps == whole and path.exists():
                    if row["job"] not in results:
                        results[row["job"]] = documents.read(path, Result, schema=RESULT_SCHEMA, version=VERSION)
                    runs[arm, budget, rate, seed] = results[row["job"]]
            if runs:
                found.setdefault(task.name, []).append((setting, runs, curves))
    return found


def judged(runs, curve, labels, key):
    """The rate of an arm, and its runs by seed: the sweep's, halved while a seed falls off."""
    rate = curve["rate"]
    least = min(p["loss"] for p in curve["points"] if p["loss"] is not None)
    points = (Point(rate=rate, steps=1, batch=1, loss=least),)
    known = Curve(arm=" ".join(key), points=points, rate=rate, steps=1, batch=1)
    for _ in range(4):
        here = {seed: run for (arm, budget, at, seed), run in runs.items() if (arm, budget, at) == (*key, rate)}
        if here and not any(fell_off(run, known, labels) for run in here.values()):
            return rate, here
        rate /= 2
    return None, {}


def pairs_of(arm, parts):
    """An arm beside uniform at each budget where the two differ, by the first folder that holds both."""
    for setting, runs, curves in parts:
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
        if found:
            least = min(len(pair.arm) for pair in found)
            return [attrs.evolve(pair, arm=pair.arm[:least], base=pair.base[:least]) for pair in found]
    return []


def arms_table(tasks):
    """Every arm against uniform: change of NLL, negative is better, by task and over all tasks with several seeds."""
    print("| arm | " + " | ".join(tasks) + " | alike | p | by precision | p | p (Holm) | these tasks | p |")
    print("|---|" + "---|" * (len(tasks) + 7))
    rows = []
    names = {arm for parts in tasks.values() for _, runs, _ in parts for arm, *_ in runs}
    for arm in sorted(names - {UNIFORM}):
        cells, several = [], []
        for parts in tasks.values():
            pairs = pairs_of(arm, parts)
            cells.append(told(pooled([pairs])) + f", {len(pairs)} × {len(pairs[0].arm)}" if pairs else "–")
            several += [pairs] if pairs and len(pairs[0].arm) > 1 else []
        rows.append((arm, cells, pooled(several) if several else None, by_precision(several), fixed(several)))
    corrected = holm([1.0 if weighed is None else weighed[-1] for *_, weighed, _ in rows])
    for (arm, cells, overall, weighed, these), p in zip(rows, corrected, strict=True):
        said = "– | –" if overall is None else f"{told(overall)} | {overall.p:.3f}"
        if weighed is None:
            said += " | –" * 5
        else:
            spelled = "{:+.2%} ({:+.2%} to {:+.2%}) | {:.3f}"
            said += f" | {spelled.format(*weighed)} | {p:.3f} | {spelled.format(*these)}"
        print(f"| {arm} | {' | '.join(cells)} | {said} |")


def by_precision(tasks):
    """Mean, 95 % interval and p of random effects over tasks; None of fewer than two."""
    if len(tasks) < 2:
        return None
    means, variances = means_of(tasks)
    weights, free = 1 / variances, len(means) - 1
    fixed = weights @ means / weights.sum()
    excess = weights @ (means - fixed) ** 2 - free
    between = max(0.0, excess / (weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (variances + between)
    mean = weights @ means / weights.sum()
    error = np.sqrt(max(weights @ (means - mean) ** 2 / free, 1.0) / weights.sum())
    half = stats.t.ppf(0.975, free) * error
    return mean, mean - half, mean + half, 2 * stats.t.sf(abs(mean) / error, free)


def fixed(tasks):
    """Mean, 95 % interval and p of fixed effects: of these tasks alone; None of fewer than two."""
    if len(tasks) < 2:
        return None
    means, variances = means_of(tasks)
    mean, error = (means / variances).sum() / (1 / variances).sum(), (1 / variances).sum() ** -0.5
    half = stats.norm.ppf(0.975) * error
    return mean, mean - half, mean + half, 2 * stats.norm.sf(abs(mean) / error)


def means_of(tasks):
    """By task, the mean over its budgets and the square of its standard error."""
    found = [pooled([pairs]) for pairs in tasks]
    errors = [(each.high - each.low) / 2 / stats.norm.ppf(0.975) for each in found]
    return np.array([each.estimate for each in found]), np.array(errors) ** 2


def told(difference):
    return f"{difference.estimate:+.2%} ({difference.low:+.2%} to {difference.high:+.2%})"


if __name__ == "__main__":
    arms_table(read([Path(folder) for folder in sys.argv[1:]]))
