"""What the runs of `cores.py` say: loss by source and budget, and the parameters that LoRA needs for the same loss.

    python tests/benchmarks/study/cores_summary.py OUT [OUT …]

Losses are means over seeds at each arm's rate: of those at which it has all its seeds, the one of the least mean. What
LoRA needs is read off its own curve, linear in the logarithm of the parameters; a core whose subspace came from a
warm-up is held against LoRA with as many more steps. ``~`` is beyond what was measured, along the last two points.
"""

import itertools
import json
import math
import statistics
import sys
from fractions import Fraction
from pathlib import Path

LORA = "lora"


def read(folders):
    """By task, the lines of whole runs, each job once.

    folders: that `cores.py` was given as ``--out``.
    """
    found = {}
    for path in sorted(path for folder in folders for path in Path(folder).glob("*/results.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["stage"] != "rates":
                found.setdefault(path.parent.name, {})[row["job"]] = row
    return {task: list(rows.values()) for task, rows in found.items()}


def judged(rows):
    """By arm and budget: mean loss, its standard deviation over seeds, mean accuracy, parameters, rate and seeds.

    rows: of one task.
    """
    runs = {}
    for row in rows:
        runs.setdefault((row["arm"], Fraction(row["budget"].removeprefix("r="))), {}).setdefault(
            row["rate"], []
        ).append(row)
    found = {}
    for key, by_rate in runs.items():
        most = max(len(of_rate) for of_rate in by_rate.values())
        whole = {rate: of_rate for rate, of_rate in by_rate.items() if len(of_rate) == most}
        rate = min(whole, key=lambda rate: statistics.fmean(row["loss"] for row in whole[rate]))
        losses = [row["loss"] for row in whole[rate]]
        right = [row["accuracy"] for row in whole[rate] if row["accuracy"] is not None]
        found[key] = {
            "loss": statistics.fmean(losses),
            "spread": statistics.stdev(losses) if most > 1 and all(map(math.isfinite, losses)) else None,
            "accuracy": statistics.fmean(right) if right else None,
            "parameters": statistics.fmean(row["parameters"] for row in whole[rate]),
            "rate": rate,
            "seeds": most,
        }
    return found


def needed(loss, curve):
    """The parameters of LoRA for a loss, and whether that is beyond what was measured; None where no curve says.

    loss: to be reached.
    curve: (parameters, loss) of LoRA.
    """
    points, least = [], math.inf
    for parameters, reached in sorted(curve):
        if reached < least:  # what more parameters do no better is no way to a loss
            points.append((math.log(parameters), reached))
            least = reached
    if len(points) < 2 or not math.isfinite(loss):
        return None
    pairs = list(itertools.pairwise(points))
    (x, y), (u, v) = next((pair for pair in pairs if loss >= pair[1][1]), pairs[-1])
    found = math.exp(x + (loss - y) / (v - y) * (u - x))
    return found, not points[-1][1] <= loss <= points[0][1]


def baseline(source, found):
    """The name of the LoRA that a source is held against: with as many more steps as its warm-up took.

    source: name of the arm.
    found: what there is.
    """
    share = source.partition("warm-")[2].partition("+")[0].partition(":")[0]
    with_more = f"{LORA}+{share}"
    return with_more if share and any(arm == with_more for arm, _ in found) else LORA


def table(found):
    """Lines of a table in Markdown.

    found: as `judged` gives it.
    """
    budgets = sorted({budget for _, budget in found})
    lines = ["| NLL (LoRA needs) | " + " | ".join(f"r = {budget}" for budget in budgets) + " |"]
    lines.append("|---" * (len(budgets) + 1) + "|")
    for source in sorted({arm for arm, _ in found}, key=lambda arm: (not arm.startswith(LORA), arm)):
        base = baseline(source, found)
        curve = [(each["parameters"], each["loss"]) for (arm, _), each in found.items() if arm == base]
        cells = []
        for budget in budgets:
            each = found.get((source, budget))
            if each is None:
                cells.append("–")
                continue
            said = f"{each['loss']:.4f}" + (f" ± {each['spread']:.4f}" if each["spread"] is not None else "")
            reached = None if source.startswith(LORA) else needed(each["loss"], curve)
            if reached is not None:
                parameters, beyond = reached
                said += f" ({'~' if beyond else ''}{parameters / each['parameters']:.1f} ×)"
            cells.append(said)
        lines.append(
            f"| {source}" + ("" if source.startswith(LORA) else f", against {base}") + f" | {' | '.join(cells)} |"
        )
    return lines


def details(found):
    """Lines that say parameters, rates, seeds and accuracies of every arm.

    found: as `judged` gives it.
    """
    lines = ["| arm | budget | parameters | rate | seeds | NLL | accuracy |", "|---|---|---|---|---|---|---|"]
    for (arm, budget), each in sorted(found.items()):
        accuracy = "–" if each["accuracy"] is None else f"{each['accuracy']:.4f}"
        lines.append(
            f"| {arm} | r = {budget} | {each['parameters']:,.0f} | {each['rate']:g} | {each['seeds']} "
            f"| {each['loss']:.4f} | {accuracy} |"
        )
    return lines


if __name__ == "__main__":
    for task, rows in read(sys.argv[1:]).items():
        found = judged(rows)
        print(f"\n{task}\n")
        print("\n".join([*table(found), "", *details(found)]))
