"""Every model class of transformers against its own backward passes, and every collator against its documents.

    OMP_NUM_THREADS=1 python tests/benchmarks/exactness.py --out results.jsonl          # a quarter of an hour
    OMP_NUM_THREADS=1 python tests/benchmarks/exactness.py --task causal-lm --only Llama,GPT2
    python tests/benchmarks/exactness.py --table results.jsonl

Classes are those of transformers' mappings for six tasks, built from a small configuration in float64. Each reads four
samples in one micro-batch, of equal and of different lengths, and the Fisher trace of each module is compared with one
plain backward pass a sample. A run goes on where its file of results ends.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sweep.classes import MAPPINGS, classes
from sweep.table import of_collators, tables
from sweep.workers import alone, warm


def main() -> None:
    arguments = parsed()
    if arguments.table is not None:
        print(tables(read(arguments.table)))
        return
    if arguments.collators:
        print(of_collators())
        return
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    warm()
    done = {(each["task"], each["name"]) for each in read(arguments.out)} if arguments.out else set()
    for task in [arguments.task] if arguments.task else MAPPINGS:
        for name in classes(task):
            wanted = not arguments.only or any(part.lower() in name.lower() for part in arguments.only.split(","))
            if not wanted or (task, name) in done:
                continue
            for result in alone(task, name, arguments.limit):
                say(result)
                if arguments.out:
                    with arguments.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(result) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(MAPPINGS), help="classes of this task alone")
    parser.add_argument("--only", help="classes whose names contain one of these, separated by commas")
    parser.add_argument("--out", type=Path, help="JSON lines of results, which are added to")
    parser.add_argument("--table", type=Path, metavar="RESULTS", help="print the tables of docs/exactness.md")
    parser.add_argument("--collators", action="store_true", help="try the collators instead, and print their table")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one class")
    return parser.parse_args()


def read(path: Path) -> list[dict[str, Any]]:
    """Results so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def say(result: dict[str, Any]) -> None:
    """One line a result."""
    told = result["error"] or f"{result['exact']} of {result['scored']} exact, worst {result['worst']:.1e}"
    print(
        f"{result['status']:8} {result['task']:23} {result['name']:44} {result['pattern']:7} {told[:200]}", flush=True
    )


if __name__ == "__main__":
    main()
