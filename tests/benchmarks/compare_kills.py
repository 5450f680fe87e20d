"""Kill comparisons at random moments and join them again: each ends with the results of one that was left alone.

    PYTHONPATH=tests python tests/benchmarks/compare_kills.py --comparisons 20

Training is pretended (`scripts.comparing`). Two processes do the jobs of each comparison; those that are killed are
followed by new ones. In the end the files of results and of the setting are compared byte by byte, and nothing else may
be left beside the queue's journal. Where none is killed, each job has to be begun once.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna  # noqa: F401 - here, so that what is forked has it at once
from attrs import field, frozen

from scripts.comparing import compare, content


@frozen
class Seen:
    """What was seen of one comparison.

    kills: processes that were killed.
    begun: jobs that were begun by then, again by whoever took them over, and again where they were lost.
    seconds: until the last process ended.
    wrong: what must not be.
    """

    kills: int
    begun: Counter[str]
    seconds: float
    wrong: list[str] = field(factory=list)

    @property
    def again(self) -> int:
        """How many jobs were begun more than once."""
        return sum(count > 1 for count in self.begun.values())


@frozen
class Comparisons:
    """Comparisons of so many jobs, each of which takes so long.

    root: a directory for them.
    whole: what one leaves that is left alone.
    """

    root: Path
    jobs: int
    seconds: float
    whole: dict[str, bytes]

    def start(self, run: Path) -> int:
        """Start a process that joins in; its number."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            compare(run, self.jobs, self.seconds, run.with_suffix(".log"))
            status = 0
        finally:
            os._exit(status)

    def once(self, name: str, pick: random.Random, *, kills: int) -> Seen:
        """Two processes do one comparison; so many are killed at random moments, each followed by a new one."""
        run, wrong = self.root / name, []
        started = time.monotonic()
        processes, killed = [self.start(run), self.start(run)], 0
        for _ in range(kills):
            time.sleep(pick.uniform(0, self.jobs * self.seconds / 2))
            victim = processes.pop(pick.randrange(len(processes)))
            os.kill(victim, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(victim, 0)[1])
            processes.append(self.start(run))
        for process in processes:
            if status := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
                wrong.append(f"a process ended with {status}")
        seconds = time.monotonic() - started
        begun = Counter(line.split()[1] for line in run.with_suffix(".log").read_text().splitlines())
        if content(run) != self.whole:
            wrong.append(f"other results: {sorted({*content(run)} ^ {*self.whole})}")
        queue = run / "compare" / "queue"
        if left := [path.name for path in queue.rglob("*") if path.is_file() and "journal" not in path.name]:
            wrong.append(f"left over: {left}")
        seen = Seen(killed, begun, seconds, wrong)
        if not killed and (seen.again or len(begun) != self.jobs):
            wrong.append(f"{seen.again} of {len(begun)} jobs were begun more than once")
        return seen


def main(comparisons: int, jobs: int, seconds: float, seed: int) -> int:
    """Print a table of what was seen; 1 where anything was wrong."""
    root = Path(tempfile.mkdtemp(prefix="layerlens-compare-kills-"))
    wrong: list[str] = []
    try:
        compare(root / "whole", jobs, 0.0, root / "whole.log", local=True)
        all_of_them = Comparisons(root, jobs, seconds, content(root / "whole"))
        print("| comparisons | processes killed | jobs | begun again | with faults | seconds |")
        print("|---|---|---|---|---|---|")
        for kills in (0, 1, 2, 4):
            rows = [
                all_of_them.once(f"{kills}-{number}", random.Random(f"{seed} {kills} {number}"), kills=kills)
                for number in range(comparisons // 4)
            ]
            faults = [fault for row in rows for fault in row.wrong]
            times = sorted(row.seconds for row in rows)
            print(
                f"| {len(rows)} | {sum(row.kills for row in rows)} | {len(rows) * jobs} | "
                f"{sum(row.again for row in rows)} | {sum(bool(row.wrong) for row in rows)} | "
                f"{times[len(times) // 2]:.1f} ({times[0]:.1f}–{times[-1]:.1f}) |",
                flush=True,
            )
            wrong += [f"with {kills} kills: {fault}" for fault in faults]
    finally:
        shutil.rmtree(root)
    for fault in wrong:
        print("WRONG", fault)
    print("all as it should be" if not wrong else f"{len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.comparisons, given.jobs, given.seconds, given.seed))
