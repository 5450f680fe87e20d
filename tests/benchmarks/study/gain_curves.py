"""How much each method gains by size, fitted to the study's arms of single methods beside none.

    python tests/benchmarks/study/gain_curves.py PATH [PATH …]

A PATH is what ``run.py`` was given as ``--out``, or a file of its rows. ``run.py`` has to train ``none``, ``uniform``
or ``method:lora``, ``method:adapter`` and ``method:prefix`` (``--arms``) at several ranks. Every arm counts at its best
rate with its mean loss over seeds. Sizes follow from the parameters and the profile beside the rows; of a file without
one the budget's rank stands for notches, which is near, as a notch of one method costs about what one of another does.
Of what ``cores.py`` wrote, cores in the subspaces of a warm-up of a tenth count, at the mean of their ranks' squares.
"""

import json
import math
import sys
from pathlib import Path
from statistics import fmean

from layerlens_core.allocation.gains import Measured, fit
from layerlens_core.comparison.arms.uniform import LORA, NOTHING
from layerlens_core.comparison.judging.judgement import UNIFORM
from layerlens_core.comparison.measured_gains import PREFIX
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import default
from layerlens_core.values.plan import CORE
from layerlens_core.values.profile import Profile

#: The arm of `cores.py` that stands for cores, and how many modules have one, by task.
CORES, MODULES = "core warm-0.1", {"gsm8k": 84, "intents": 84, "stdlib": 84, "labels": 36}


def read(paths):
    """By task its rows, and its profile where there is one."""
    found = {}
    for path in paths:
        files = [path] if path.is_file() else sorted(path.glob("*/results.jsonl"))
        for file in files:
            profile = Profile.load(file.parent) if (file.parent / "profile.json").exists() else None
            for line in file.read_text().splitlines():
                row = json.loads(line)
                if row["arm"] == CORES:
                    row["arm"] = f"{PREFIX}{CORE}"
                elif "subspace" in row:
                    continue
                found.setdefault(row.get("task", file.stem), ([], profile))[0].append(row)
    return found


def best_losses(rows):
    """By arm and budget, the parameters and the mean loss over seeds at the best rate; whole runs alone.

    Of the rates those count that all seeds were trained at, as far as any was; one at which a seed diverged does not.
    """
    whole = max(row["steps"] for row in rows)
    by_rate = {}
    for row in rows:
        if row["steps"] == whole:
            arm = f"{PREFIX}{LORA}" if row["arm"] == UNIFORM else row["arm"]
            loss = math.inf if row["loss"] is None else row["loss"]
            by_rate.setdefault((arm, row["budget"], row["parameters"]), {}).setdefault(row["rate"], {})[row["seed"]] = (
                loss
            )
    found = {}
    for (arm, budget, parameters), rates in by_rate.items():
        most = max(map(len, rates.values()))
        means = [fmean(seeds.values()) for seeds in rates.values() if len(seeds) == most]
        if (least := min(filter(math.isfinite, means), default=None)) is not None:
            found[arm, budget] = parameters, least
    return found


def notches(method, budget, parameters, profile):
    """The size of an arm that is one method everywhere, in notches."""
    if profile is None:
        return float(budget.removeprefix("params=").removeprefix("r="))
    loaded = default().load("method", method)
    unscored = {each.name for each in profile.unscored}
    targets = [
        each for layer in profile.inventory.layers for each in loaded.targets(layer) if each.name not in unscored
    ]
    size = (parameters - sum(each.fixed for each in targets)) / sum(each.per_size for each in targets)
    return size / loaded.notch


def arms_of(task, rows, profile):
    """The arms of single methods as measured."""
    losses = best_losses(rows)
    nothing = [loss for (arm, _), (_, loss) in losses.items() if arm == NOTHING]
    if not nothing:
        raise PlanError(f"{task} has no whole run of the arm {NOTHING!r}, which all methods gain from")
    return [
        Measured(
            method=arm.removeprefix(PREFIX),
            notches=math.sqrt(parameters / MODULES[task])
            if arm == f"{PREFIX}{CORE}"
            else notches(arm.removeprefix(PREFIX), budget, parameters, profile),
            loss=loss,
            none=min(nothing),
            setting=task,
        )
        for (arm, budget), (parameters, loss) in sorted(losses.items())
        if arm.startswith(PREFIX)
    ]


def line(name, curve):
    """A curve in a line."""
    return f"  {name:<10}{curve.ceiling:7.3f} · n/(n + {curve.half:6.2f})   ± {curve.spread:.3f}"


def main(paths):
    tasks = read(paths)
    arms = {task: arms_of(task, *found) for task, found in tasks.items()}
    for task, measured in arms.items():
        print(f"{task}: none {measured[0].none:.4f}" + (" (sizes by rank)" if tasks[task][1] is None else ""))
        for each in measured:
            print(f"  {each.method:<10}{each.notches:7.2f} notches {each.loss:9.4f}")
        for name, curve in fit(measured, task).items():
            print(line(name, curve))
    pooled = [each for measured in arms.values() for each in measured]
    source = f"fitted to {len(pooled)} arms on {', '.join(arms)}"
    curves = fit(pooled, source)
    print(f"all ({source}):")
    for name, curve in curves.items():
        print(line(name, curve))
    print("as layerlens_builtin/methods/curves.py has them:")
    for name, curve in curves.items():
        text = f'"{source}; ± {curve.spread:.2g} of what can be gained"'
        print(f"{name.upper()} = Curve(ceiling={curve.ceiling:.3g}, half={curve.half:.3g}, source={text})")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(list(map(Path, sys.argv[1:])))
    except PlanError as error:
        sys.exit(str(error))
