"""Kernels for one Python beside those for the stable ABI, of the same sources, in one interleaved run.

    python tests/benchmarks/stable_abi.py [--rounds 15]

Builds both with what is installed, checks that they give equal answers, and times them in turns, in processor time.
Ratios are of neighbours in time. The table stands in docs/how-to/release.md.
"""

import argparse
import importlib.machinery
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = 32
Call = Callable[[], object]


def built(folder: Path, py_api: str) -> Path:
    """The unpacked kernels of a wheel for this ``wheel.py-api``; none is this Python alone."""
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    settings = ("--config-settings", f"wheel.py-api={py_api}")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, *settings, str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    print(wheel.name)
    return folder / "layerlens_native"


def loaded(folder: Path, name: str) -> ModuleType:
    (path,) = folder.glob(f"{name}.*.so")
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def seconds(call: Call, calls: int) -> float:
    """Of processor time, for one call."""
    began = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - began) / calls


def compare(name: str, one: Call, stable: Call, calls: int, rounds: int) -> None:
    assert one() == stable()
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for kind in (0, 1) if turn % 2 else (1, 0):
            times[kind].append(seconds((one, stable)[kind], calls))
    ratios = sorted(late / early for early, late in zip(*times, strict=True))
    medians = " | ".join(f"{statistics.median(each) * 1e6:.2f} µs" for each in times)
    print(f"| {name} | {medians} | {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) |", flush=True)


def knapsacks(units: int) -> Callable[[ModuleType], Call]:
    random = numpy.random.default_rng(units)
    sizes = numpy.arange(OPTIONS)
    costs = (random.integers(1_000, 10_000, units)[:, None] * sizes).astype(float).ravel()
    gains = (random.random(units)[:, None] * (sizes / (sizes + 8))).ravel()
    offsets = numpy.arange(units + 1) * OPTIONS
    return lambda kernel: lambda: kernel.relax(costs, gains, offsets, 0.02 * float(costs.sum()))


def thresholds(count: int) -> Callable[[ModuleType], Call]:
    values, bounds = numpy.random.default_rng(count).random(count), numpy.array([0.2, 0.4, 0.6, 0.8])
    return lambda kernel: lambda: kernel.count_at_or_below(values, bounds)


def inner_products(samples: int, rows: int, columns: int) -> Callable[[ModuleType], Call]:
    left, found = numpy.ones((samples, rows, columns), "f4"), numpy.zeros(samples)
    step = rows * columns

    def call(kernel: ModuleType) -> list[float]:
        place = left.ctypes.data
        kernel.inner(True, place, step, place, step, samples, step, step, found.ctypes.data)
        return found.tolist()

    return lambda kernel: lambda: call(kernel)


def gradient_sums(samples: int, rows: int, columns: int) -> Callable[[ModuleType], Call]:
    random = numpy.random.default_rng(rows)
    gradients = random.standard_normal((samples, rows, columns)).astype("f4")
    weight, total = random.standard_normal((rows, columns)).astype("f4"), numpy.zeros((rows, columns), "f4")
    sums = numpy.zeros((3, samples))

    def call(kernel: ModuleType) -> list[float]:
        sums[:] = 0
        kernel.sums(
            True, gradients.ctypes.data, rows * columns, columns, samples, 1, rows, columns,
            weight.ctypes.data, columns, total.ctypes.data, columns, *(part.ctypes.data for part in sums),
        )  # fmt: skip
        return sums.ravel().tolist()

    return lambda kernel: lambda: call(kernel)


def cases() -> Iterator[tuple[str, str, Callable[[ModuleType], Call], int]]:
    """A name, the kernel, what calls it, and how many calls are timed at once."""
    for units, calls in ((200, 100), (20_000, 1)):
        yield f"knapsack, {units:,} units of {OPTIONS} options", "_knapsack", knapsacks(units), calls
    for size, calls in (((4, 8, 8), 10_000), ((8, 384, 384), 100), ((8, 768, 3072), 4)):
        shape = "{} samples of {} × {}".format(*size)
        yield f"gradient sums, {shape}", "_gradient_sums", gradient_sums(*size), calls
        yield f"inner products, {shape}", "_gradient_sums", inner_products(*size), calls
    for count, calls in ((1_000, 1_000), (1_000_000, 1)):
        yield f"threshold, {count:,} values", "_threshold", thresholds(count), calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        one, stable = (built(Path(place, name), api) for name, api in (("one", ""), ("stable", "cp311")))
        print("| kernel | one Python | stable ABI | ratio (least–greatest) |\n|---|---|---|---|")
        for name, module, prepared, calls in cases():
            compare(name, prepared(loaded(one, module)), prepared(loaded(stable, module)), calls, rounds)


if __name__ == "__main__":
    main()
