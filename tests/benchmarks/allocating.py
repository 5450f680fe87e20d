"""Processor time of `allocate` and `explain` from end to end, beside that of another checkout.

    python tests/benchmarks/allocating.py [--before /path/to/another/checkout/.venv/bin/python] [--limit 300]

Models are of BERT's shape, 64 wide, with random scores, and LoRA of ranks 1 to 64: 65 candidates a layer. Each case
runs in a process of its own, both checkouts by turns; imports, the profile and one small plan come before the clock.
A process is ended at the limit on its processor time, imports included; its own time is then about that or more.
"""

import argparse
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: What is planned -> layers, strategy, budget, and whether margins are left to the default or a layer is explained.
CASES = {
    "560 layers × 64 sizes, budget": (560, "budget", {"params": "r=8"}, False),
    "4,000 × 64, budget": (4_000, "budget", {"params": "r=8"}, False),
    "8,000 × 64, budget": (8_000, "budget", {"params": "r=8"}, False),
    "16,000 × 64, budget": (16_000, "budget", {"params": "r=8"}, False),
    "500 × 64, threshold, params=1%": (500, "threshold", {"params": "1%"}, False),
    "1,000 × 64, threshold, params=1%": (1_000, "threshold", {"params": "1%"}, False),
    "16,000 × 64, threshold, params=1%": (16_000, "threshold", {"params": "1%"}, False),
    "560 × 64, cost-benefit": (560, "cost-benefit", {"params": "r=8"}, False),
    "12 × 64, budget, two bounds": (12, "budget", {"params": "r=4", "memory": "r=4"}, False),
    "12 × 64, two bounds, margins=True": (12, "budget", {"params": "r=4", "memory": "r=4"}, "margins"),
    "explain a layer of it": (12, "budget", {"params": "r=4", "memory": "r=4"}, "explain"),
    "explain a layer of 1,000": (1_000, "budget", {"params": "r=8"}, "explain"),
    "explain a layer of 8,000": (8_000, "budget", {"params": "r=8"}, "explain"),
}


def measure(name: str) -> float:
    """Seconds of processor time that one case takes in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from bert_profile import bert_profile
    from layerlens_core import tracing
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.allocation.budget import Budget
    from layerlens_core.allocation.explanation import explain

    layers, strategy, budget, more = CASES[name]
    draw = random.Random(1)
    profile = bert_profile([draw.random() for _ in range(layers)], width=64)
    arguments = {"strategy": strategy, "budget": Budget(**budget)}
    allocate(bert_profile([1.0, 2.0], width=64), strategy=strategy, margins=False)
    if more != "explain":
        began = time.process_time()
        allocate(profile, **arguments, margins=True if more else None)
        return time.process_time() - began
    with tempfile.TemporaryDirectory() as place:
        run = Path(place)
        with tracing.to_file(run, run_id="benchmark"):
            allocate(profile, **arguments, margins=False).save(run)
        profile.save(run)
        began = time.process_time()
        explain(run, str(layers // 2))
        return time.process_time() - began


def seconds(python: str, name: str, limit: float) -> str:
    """Of one case under another interpreter."""
    # Of processor time, not of the clock: a busy machine must not make a bound of what was only waiting.
    limited = f'ulimit -t {math.ceil(limit)}; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", limited, "sh", python, __file__, "--one", name], capture_output=True, text=True, check=False
    )
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        return f"> {limit:.0f}"
    done.check_returncode()
    return f"{float(done.stdout):.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="the interpreter of another checkout")
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--one", choices=CASES)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.one))
        return
    pythons = [*([arguments.before] if arguments.before else []), sys.executable]
    print("| case | " + ("before, s | " if arguments.before else "") + "s |")
    print("|---|" + "---|" * len(pythons))
    for name in CASES:
        print(
            f"| {name} | " + " | ".join(seconds(python, name, arguments.limit) for python in pythons) + " |", flush=True
        )


if __name__ == "__main__":
    main()
