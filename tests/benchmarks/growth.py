"""How a profile's cost grows with layers, width, length, batch and number of metrics, as a picture and a table.

    OMP_NUM_THREADS=1 python tests/benchmarks/growth.py --out docs/profiling-growth.svg

Seconds of processor time a batch, the median over interleaved repeats; one thing is changed at a time. The picture
needs matplotlib; without it the table alone is printed.
"""

import argparse
import math
import statistics
from pathlib import Path

import torch
from profiling import ARMS, build, draw, profiled, steps, timer

from layerlens_core.inspection.inspect import inspect

BASE = {"layers": 2, "width": 128, "tokens": 128, "batch": 4}
SWEEPS = {
    "layers": (1, 2, 4, 8),
    "width": (64, 128, 256, 512),
    "tokens": (32, 64, 128, 256, 512),
    "batch": (2, 4, 8, 16),
}
SHOWN = ("plain", "floor", "sketch", "fisher", "fisher+energy", "weight_gradient")
#: Each metric alone, and as many as come first together.
ALONE = {
    "fisher": ARMS["fisher"],
    "gradient_energy": ARMS["fisher+energy"],
    "weight_gradient": ARMS["weight_gradient"],
    "spectrum": ARMS["spectrum"],
}
TOGETHER = {
    "the first two": ARMS["fisher+energy"],
    "the first three": ARMS["all three"],
    "all four": ARMS["all four"],
}


def seconds(shape: dict[str, int], arms: dict[str, dict[str, object]], repeats: int) -> dict[str, float]:
    """Median seconds a batch of every arm; `plain` and `floor` are training steps with and without weight gradients."""
    arguments = argparse.Namespace(**shape, shape="", vocabulary=512, dtype="float32", device="cpu")
    model = build(arguments)
    samples = draw(512, 3 * shape["batch"], shape["tokens"])
    names = [*(target.name for target in inspect(model).modules), "lm_head"]
    now = timer(torch.device("cpu"))

    def once(arm: str) -> float:
        if arm in ("plain", "floor"):
            return steps(model, samples, shape["batch"], names if arm == "plain" else [], False, now) / 2
        return profiled(model, samples, shape["batch"], now, arms[arm]) / 2

    took: dict[str, list[float]] = {arm: [] for arm in arms}
    for repeat in range(repeats + 1):
        for arm in arms:
            found = once(arm)
            if repeat:
                took[arm].append(found)
    return {arm: statistics.median(values) for arm, values in took.items()}


def print_metrics(repeats: int) -> dict[str, float]:
    """Median seconds a batch of every metric alone and of several together, as a table."""
    found = seconds({**BASE, "width": 512}, {"plain": {}, **ALONE, **TOGETHER}, repeats)
    dearest = max(found[arm] for arm in ALONE)
    print("\n| metrics | share of plain | beside the dearest alone |\n|---|---|---|")
    for arm in (*ALONE, *TOGETHER):
        print(f"| {arm} | {found[arm] / found['plain']:.3f} | {found[arm] / dearest:.3f} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--metrics-only", action="store_true", help="Only the last table.")
    arguments = parser.parse_args()
    if arguments.metrics_only:
        print_metrics(arguments.repeats)
        return
    shown: dict[str, dict[str, object]] = {arm: ARMS.get(arm, {}) for arm in SHOWN}
    found = {
        axis: {value: seconds({**BASE, axis: value}, shown, arguments.repeats) for value in values}
        for axis, values in SWEEPS.items()
    }
    print("| arm | " + " | ".join(f"{axis}, exponent" for axis in SWEEPS) + " |")
    print("|---" * (len(SWEEPS) + 1) + "|")
    for arm in SHOWN:
        slopes = []
        for by_value in found.values():
            (first, low), *_, (last, high) = ((value, rows[arm]) for value, rows in by_value.items())
            slopes.append(math.log(high / low) / math.log(last / first))
        print(f"| {arm} | " + " | ".join(f"{slope:.2f}" for slope in slopes) + " |")
    metrics = print_metrics(arguments.repeats)
    if arguments.out is None:
        return
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "layerlens"
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, len(SWEEPS) + 1, figsize=(16, 3.4), layout="constrained")
    for axis, (name, by_value) in zip(axes, found.items(), strict=False):
        for arm in SHOWN:
            axis.loglog(list(by_value), [rows[arm] for rows in by_value.values()], marker="o", markersize=3, label=arm)
        axis.set_xlabel(name, fontsize=9)
        axis.set_xticks(list(by_value), [str(value) for value in by_value])
    axis = axes[-1]
    for arm in ALONE:
        axis.loglog([1], [metrics[arm]], marker="o", markersize=3, linestyle="", label=f"{arm} alone")
    axis.loglog([1, 2, 3, 4], [metrics[arm] for arm in ("fisher", *TOGETHER)], color="black", label="together")
    axis.axhline(max(metrics[arm] for arm in ALONE), color="grey", linestyle=":", linewidth=1)
    axis.set_ylim(metrics["plain"] / 4, metrics["plain"] * 2)
    axis.set_xticks([1, 2, 3, 4], ["1", "2", "3", "4"])
    axis.set_xlabel("metrics, at width 512", fontsize=9)
    for axis in axes:
        axis.xaxis.minorticks_off()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes[0].set_ylabel("seconds a batch")
    axes[0].legend(fontsize=7)
    axes[-1].legend(fontsize=7, loc="lower right")
    figure.savefig(arguments.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
