"""Files that are changed at random, over all readers: refused by name, or read as what they then say.

    PYTHONPATH=tests OMP_NUM_THREADS=1 python tests/benchmarks/mutations.py [--count 100000] [--readers NAME,…]

Prints a row a reader: how many files were refused and accepted, and of these how many mean what they were made from and
how many something else that they say consistently; faults, which are errors that are not LayerLens's own, files that
took too long or too much, and accepted ones that contradict themselves; the slowest, and the peak of memory. Exits with
1 where there is a fault. A file depends on its reader, the seed and its number alone.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from mutation.judging import Judgement, judge
from mutation.registry import READERS

#: Faults of a kind that are shown.
_SHOWN = 2
_ROW = "| {:<11} | {:>7} | {:>7} | {:>9} | {:>8} | {:>6} | {:>9} | {:>8} |"


def row(name: str, found: Judgement) -> str:
    """A reader's row of the table."""
    numbers = (f"{number:,}" for number in (found.files, found.refused, found.equal, found.other, len(found.faults)))
    return _ROW.format(name, *numbers, f"{found.slowest:.2f} s", f"{found.memory / 2**20:.0f} MB")


def faults_by_kind(found: Judgement) -> list[str]:
    """Some faults of each kind, and how many there are."""
    kinds: Counter[str] = Counter()
    lines = []
    for fault in found.faults:
        kind = fault.partition(": ")[2].partition(": ")[2].partition(": ")[0]
        kinds[kind] += 1
        if kinds[kind] <= _SHOWN:
            lines.append(f"    {fault}")
    return [*(f"  {count} × {kind}" for kind, count in kinds.most_common()), *lines]


def main(names: list[str], count: int, seed: int) -> int:
    """Judge the readers and print the table; returns 1 where there is a fault."""
    root = Path(tempfile.mkdtemp(prefix="layerlens-mutations-"))
    total = 0
    try:
        print(_ROW.format("reader", "files", "refused", "equal", "other", "faults", "slowest", "memory"))
        print("|" + "|".join(f" {'-' * width} " for width in (11, 7, 7, 9, 8, 6, 9, 8)) + "|")
        for at, name in enumerate(names):
            reader = READERS[name](root)
            work = root / f"work-{name}"
            work.mkdir()
            began = time.monotonic()
            share = count // len(names) + (at < count % len(names))
            found = judge(reader, work, share, f"{seed} {name}")
            print(row(name, found), flush=True)
            print("\n".join([f"{name}: {time.monotonic() - began:.0f} s", *faults_by_kind(found)]), file=sys.stderr)
            total += len(found.faults)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if total else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="files over all readers")
    parser.add_argument("--readers", help=f"by default all: {','.join(READERS)}")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = given.readers.split(",") if given.readers else list(READERS)
    if unknown := [name for name in names if name not in READERS]:
        parser.error(f"no reader is named {unknown[0]}; there are: {', '.join(READERS)}")
    sys.exit(main(names, given.count, given.seed))
