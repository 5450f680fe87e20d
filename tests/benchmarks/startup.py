"""CPU time of the commands that should answer at once, beside that of a Python that does nothing.

    python tests/benchmarks/startup.py [ROUNDS]

Prints user + system time of whole processes, in milliseconds: the median over the rounds, the quartiles, and the
ratio to ``python -c pass``. Commands take turns, so that whatever else the machine does falls on all of them alike.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

LAYERLENS = Path(sys.executable).with_name("layerlens")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "layerlens --help": [str(LAYERLENS), "--help"],
    "layerlens plugins": [str(LAYERLENS), "plugins"],
}


def cpu_time(command: list[str]) -> float:
    """User and system time of one process, in seconds. Raises `CalledProcessError` where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def main(rounds: int) -> None:
    """Measure and print."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        cpu_time(command)  # once for the file cache and compiled modules
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            times[name].append(cpu_time(command))
    base = statistics.median(next(iter(times.values())))
    print(f"{'CPU time of ' + str(rounds) + ' runs':<20} {'median':>8} {'quartiles':>15} {'ratio':>7}")
    for name, column in times.items():
        low, median, high = statistics.quantiles(column, n=4)
        print(
            f"{name:<20} {median * 1e3:>5.0f} ms {f'{low * 1e3:.0f} to {high * 1e3:.0f} ms':>15} {median / base:>6.1f}x"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
