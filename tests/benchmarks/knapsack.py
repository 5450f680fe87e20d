"""The native solver beside HiGHS's MILP on the same instances, in one interleaved run.

    python tests/benchmarks/knapsack.py [--repeats 3] [--highs-limit 60]

Units have random utilities and prices and 32 options each (none, and 31 sizes with concave gains); the budget is
2 % of what everything would cost. HiGHS gets the same relative gap that the solver's certificate reached, and a time
limit, after which its process is ended: its own limit does not hold in presolve. Ratios are pair by pair; where
HiGHS was ended they are lower bounds.
"""

import argparse
import multiprocessing
import os
import platform
import queue
import statistics
import time
from array import array

import numpy
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from layerlens_native import knapsack

OPTIONS = 32


def instance(units: int, seed: int):
    """Costs, gains and offsets, as flat arrays."""
    random = numpy.random.default_rng(seed)
    sizes = numpy.arange(OPTIONS)
    costs = (random.integers(1_000, 10_000, units)[:, None] * sizes).astype(float).ravel()
    gains = (random.random(units)[:, None] * (sizes / (sizes + 8))).ravel()
    return costs, gains, numpy.arange(units + 1) * OPTIONS


def highs(seed, units, gap, answers):
    """Put seconds and value of one run of HiGHS into a queue."""
    costs, gains, _ = instance(units, seed)
    budget = 0.02 * float(costs.sum())
    groups, items = numpy.repeat(numpy.arange(units), OPTIONS), numpy.arange(len(costs))
    started = time.perf_counter()
    result = milp(
        -gains,
        constraints=[
            LinearConstraint(csr_array((numpy.ones(len(costs)), (groups, items))), 1, 1),
            LinearConstraint(costs[None] / budget, -numpy.inf, 1),
        ],
        integrality=numpy.ones(len(costs)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": gap},
    )
    answers.put((time.perf_counter() - started, -result.fun))


def highs_within(seed, units, gap, limit):
    """Seconds and value, or the limit and None where HiGHS took longer."""
    answers = multiprocessing.Queue()
    process = multiprocessing.Process(target=highs, args=(seed, units, gap, answers))
    process.start()
    try:
        return answers.get(timeout=limit)
    except queue.Empty:
        return limit, None
    finally:
        process.kill()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--highs-limit", type=float, default=60.0)
    parser.add_argument("--units", type=int, nargs="*", default=[200, 2_000, 20_000])
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"solver {knapsack.IMPLEMENTATION}"
    )
    print("| units | candidates | native, s | HiGHS, s | ratio (min–max) | native gap | HiGHS value / native value |")
    print("|---|---|---|---|---|---|---|")
    for units in arguments.units:
        ours, theirs, ratios, gaps, values = [], [], [], [], []
        for seed in range(arguments.repeats):
            costs, gains, offsets = instance(units, seed)
            flat = array("d", costs.tobytes()), array("d", gains.tobytes()), array("q", offsets.astype("q").tobytes())
            started = time.perf_counter()
            solution = knapsack.solve(*flat, 0.02 * float(costs.sum()))
            ours.append(time.perf_counter() - started)
            seconds, value = highs_within(seed, units, max(solution.gap, 1e-9), arguments.highs_limit)
            theirs.append(seconds)
            ratios.append(seconds / ours[-1])
            gaps.append(solution.gap)
            values.append(None if value is None else value / solution.value)
        ended = None in values
        quality = "–" if ended else f"{statistics.median(values):.7f}"
        print(
            f"| {units:,} | {units * OPTIONS:,} | {statistics.median(ours):.4f} "
            f"| {'> ' if ended else ''}{statistics.median(theirs):.2f} "
            f"| {'> ' if ended else ''}{statistics.median(ratios):,.0f} ({min(ratios):,.0f}–{max(ratios):,.0f}) "
            f"| {max(gaps):.1e} | {quality} |",
            flush=True,
        )
    costs, gains, offsets = instance(31_250, 0)
    flat = array("d", costs.tobytes()), array("d", gains.tobytes()), array("q", offsets.astype("q").tobytes())
    times = []
    for _ in range(max(arguments.repeats, 3)):
        started = time.perf_counter()
        solution = knapsack.solve(*flat, 0.02 * float(costs.sum()))
        times.append(time.perf_counter() - started)
    print(
        f"\n1,000,000 candidates: {statistics.median(times):.3f} s ({min(times):.3f}–{max(times):.3f}), "
        f"gap {solution.gap:.1e}"
    )


if __name__ == "__main__":
    main()
