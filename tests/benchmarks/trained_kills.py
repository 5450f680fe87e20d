"""Kill comparisons that really train, by SIGKILL at random moments, and go on with them by the command line.

    PYTHONPATH=tests OMP_NUM_THREADS=1 python tests/benchmarks/trained_kills.py --comparisons 20 --seed 0

Each comparison is ``layerlens compare`` of a tiny random Llama, begun by one process or by two that join, in turn. Its
processes are killed once to three times, at moments that are spread over a whole life of one. They are forked from this
one, which has imported everything; of every fifth comparison they start anew, and may die as they import. Then a plain
rerun, one ``--join`` or two go on until they end well. Then ``comparison.json`` and ``recipe.json`` have to be
those of a comparison that was left alone: names, rates and findings as they are, figures to rounding, since arms round
otherwise beside others, and one process takes more of them at once than several do. It is told whether they are, to the
last bit, those of one process that was left alone, or of two. Each job has one result, and nothing else may be left.
Where two join and none is killed, each job has to be begun once. Exits with 1 where anything else was seen.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import optuna  # noqa: F401 - here, so that what is forked has it at once
import peft  # noqa: F401
import scipy.stats  # noqa: F401
import torch
from attrs import define, field, frozen

import zoo
from layerlens_core.cli import main as layerlens
from layerlens_core.comparison import compare  # noqa: F401
from scripts import environment
from word_list import WORDS
from zoo.words import TEMPLATES, tokenizer

#: The least comparison that has every stage: rates, arms, verdict.
OPTIONS = ("--arms", "plan", "--steps", "16", "--batch", "4", "--seeds", "2", "--max-length", "16")
#: What differs from run to run: seconds of a step and of a run, its neighbours, its memory.
_MEASURED = {"step", "seconds", "stacked", "peak"}
#: Figures may differ by this, relative to 1 or to themselves.
ROUNDING = 1e-4


@frozen
class Commands:
    """``layerlens`` in processes of its own.

    root: with the model and the data.
    """

    root: Path

    def start(self, run: Path, *more: str, anew: bool = False) -> ForkProcess:
        """Start a comparison of a run."""
        given = ("--model", str(self.root / "model"), "--data", str(self.root / "data.jsonl"), *OPTIONS)
        return self._started("compare", str(run), *given, *more, said=run.with_suffix(".said"), anew=anew)

    def plan(self, run: Path) -> None:
        """Plan, so that modules differ in rank."""
        given = (str(self.root / "model"), "--data", str(self.root / "data.jsonl"), "--budget", "params=r=2")
        if status(self._started("plan", *given, "--no-abstain", "--out", str(run), said=run.with_suffix(".said"))):
            raise RuntimeError(errors(run))

    def _started(self, *arguments: str, said: Path, anew: bool = False) -> ForkProcess:
        process = get_context("fork").Process(target=_command, args=(arguments, said, anew))
        process.start()
        return process


def _command(arguments: Sequence[str], said: Path, anew: bool) -> None:
    """A command in a process that was forked, or in a new interpreter in its place."""
    with said.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if anew:
        os.execve(sys.executable, [sys.executable, "-m", "layerlens_core", *arguments], environment())
    layerlens(list(arguments))


def status(process: ForkProcess) -> int | None:
    """How a process ends, waited for."""
    process.join()
    return process.exitcode


@frozen
class Found:
    """What a comparison leaves, without what is measured of time and memory.

    told: the comparison and the recipe.
    results: by job.
    """

    told: Any
    results: dict[str, Any]

    @classmethod
    def of(cls, run: Path) -> "Found":
        """Read it."""
        told = [_read(run / name) for name in ("compare/comparison.json", "recipe.json")]
        results = {path.name: _read(path) for path in (run / "compare" / "results").iterdir()}
        return cls(told, results)


@define
class Seen:
    """What was seen of one comparison.

    stages: what it was doing when processes were killed.
    ways: how it was begun, and how it went on.
    exact: whether every figure is, to the last bit, that of one process that was left alone, or of two.
    wrong: what must not be.
    """

    stages: list[str] = field(factory=list)
    ways: str = ""
    exact: bool = False
    wrong: list[str] = field(factory=list)


@frozen
class Kills:
    """Kill and look.

    commands: how to start one.
    planned: the run's directory.
    whole: what a comparison leaves that is left alone.
    seconds: that it takes.
    seconds_anew: that it takes with all imports.
    joined: what a comparison leaves that two processes share.
    """

    commands: Commands
    planned: Path
    whole: Found
    seconds: float
    seconds_anew: float
    joined: list[Found] = field(factory=list, init=False)

    def once(self, number: int, share: float, pick: random.Random) -> Seen:
        """Kill one comparison for the first time at about a share of its life, and look at what it ends with."""
        run, seen = self.planned.parent / f"run-{number}", Seen()
        shutil.copytree(self.planned, run)
        joined = number % 2 == 1
        seen.ways = "two joined" if joined else "one"
        for moment in (share, *(pick.random() for _ in range(pick.randrange(3)))):
            self._killed(run, moment, pick, (joined, number % 5 == 0), seen)
            joined = joined or pick.random() < 0.5
        ways: tuple[tuple[str, int], ...] = (("", 1), ("--join", 1), ("--join", 2))
        option, count = ways[number % 3]
        seen.ways += f", then {count} {option or 'plain'}"
        self._ended(run, [option] if option else [], count, seen)
        return seen

    def together(self, run: Path) -> Seen:
        """Two joined processes that nobody kills."""
        shutil.copytree(self.planned, run)
        seen = Seen(ways="two joined, not killed")
        self._ended(run, ["--join"], 2, seen)
        if seen.wrong:
            return seen
        self.joined.append(Found.of(run))
        begun = begun_in(run)
        if len(begun) != len(self.whole.results) or set(begun.values()) != {1}:
            seen.wrong.append(f"jobs were begun {sorted(Counter(begun.values()).items())} times")
        return seen

    def _killed(self, run: Path, moment: float, pick: random.Random, how: tuple[bool, bool], seen: Seen) -> None:
        """Start one process or two, anew or not, and kill one or all of them; a moment may come too late."""
        joined, anew = how
        processes = [self.commands.start(run, *(["--join"] if joined else []), anew=anew) for _ in range(1 + joined)]
        time.sleep(moment * (self.seconds_anew if anew else self.seconds))
        seen.stages.append(stage(run))
        alive = [process for process in processes if process.exitcode is None]
        for process in alive if pick.random() < 0.5 else alive[:1]:
            process.kill()
        ended = [status(process) for process in processes]
        if -signal.SIGKILL not in ended:
            seen.stages[-1] = "too late"
        if wrong := [each for each in ended if each not in (0, -signal.SIGKILL)]:
            seen.wrong.append(f"beside a kill a process ended with {wrong}: {errors(run)}")

    def _ended(self, run: Path, options: Sequence[str], count: int, seen: Seen) -> None:
        processes = [self.commands.start(run, *options) for _ in range(count)]
        ended = [status(process) for process in processes]
        if any(ended):
            seen.wrong.append(f"what went on did not end well: {errors(run)}")
            return
        found = Found.of(run)
        if found.results.keys() != self.whole.results.keys():
            seen.wrong.append(f"other jobs: {sorted(found.results.keys() ^ self.whole.results.keys())}")
        differing = list(differences((found.told, found.results), (self.whole.told, self.whole.results)))
        seen.exact = not differing or found in self.joined
        seen.wrong += [f"another value: {each}" for each in differing if "≈" not in each][:3]
        seen.wrong += [f"left over: {name}" for name in left_over(run)]


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two documents differ; with ``≈`` where it is by rounding."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from differences(one[name], other[name], f"{place}/{name}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    elif one != other:
        near = isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=ROUNDING)
        yield f"{place}: {one} {'≈' if near else 'instead of'} {other}"


def stage(run: Path) -> str:
    """What a comparison is doing, by what it has left."""
    folder = run / "compare"
    if (run / "recipe.json").exists():
        return "ending"
    if (folder / "comparison.json").exists():
        return "writing"
    if not (folder / "setting.json").exists():
        return "importing, loading"
    steps = [_read(path)["job"]["schedule"]["judged"] for path in (folder / "results").glob("[!.]*.json")]
    if 0 in steps:  # whole runs are judged on all samples
        return "verdict or arms"
    return "rates or arms" if steps else "first rates"


def begun_in(run: Path) -> Counter[int]:
    """How often each trial of the queue was begun, by Optuna's journal."""
    lines = (run / "compare" / "queue" / "journal.log").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return Counter(entry["trial_id"] for entry in entries if entry["op_code"] == 6 and entry["state"] == 0)


def left_over(run: Path) -> list[str]:
    """Files that no comparison needs: of processes, leases, and what was being written."""
    paths = [path for path in run.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(run))
        for path in paths
        if path.name.startswith(".") or path.parent.name in ("workers", "leases")
    ]


def errors(run: Path) -> str:
    """What its processes said of errors, or else what they said last: one may have ended well after another."""
    lines = run.with_suffix(".said").read_text(errors="replace").splitlines() or [""]
    return "; ".join([line for line in lines if "Error" in line][-3:]) or lines[-1]


def _read(path: Path) -> Any:
    return _kept(json.loads(path.read_text()))


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kept(each) for name, each in value.items() if name not in _MEASURED}
    return [_kept(each) for each in value] if isinstance(value, list) else value


def prepared(root: Path) -> Commands:
    """A tiny model, and texts of which it can learn what follows what."""
    zoo.build("llama-words", spread=0.2).save_pretrained(root / "model")
    tokenizer(TEMPLATES["llama-words"]).save_pretrained(root / "model")
    pick = random.Random(0)
    starts = [pick.randrange(len(WORDS)) for _ in range(320)]
    texts = [" ".join(WORDS[(start + step) % len(WORDS)] for step in range(6 + start % 5)) for start in starts]
    (root / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Commands(root)


def main(comparisons: int, seed: int) -> int:
    """Print a line for each comparison; 1 where anything was wrong."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="layerlens-trained-kills-"))
    try:
        commands = prepared(root)
        commands.plan(root / "planned")
        seconds = []
        for name, anew in (("whole", False), ("anew", True)):
            shutil.copytree(root / "planned", root / name)
            began = time.monotonic()
            if status(commands.start(root / name, anew=anew)):
                raise RuntimeError(errors(root / name))
            seconds.append(time.monotonic() - began)
        kills = Kills(commands, root / "planned", Found.of(root / "whole"), *seconds)
        print(f"left alone: {len(kills.whole.results)} jobs, {seconds[0]:.1f} s, {seconds[1]:.1f} s anew", flush=True)
        seen = [kills.together(root / "together")]
        print(_line(0, seen[0]), flush=True)
        for number in range(comparisons):
            pick = random.Random(f"{seed} {number}")
            seen.append(kills.once(number, (number + pick.random()) / comparisons, pick))
            print(_line(number + 1, seen[-1]), flush=True)
    finally:
        shutil.rmtree(root)
    killed = Counter(stage for each in seen for stage in each.stages)
    print(f"killed while: {dict(killed)}; the same to the last bit: {sum(each.exact for each in seen)} of {len(seen)}")
    faults = sum(bool(each.wrong) for each in seen)
    print("all as it should be" if not faults else f"{faults} comparisons with faults")
    return 1 if faults else 0


def _line(number: int, seen: Seen) -> str:
    end = "; ".join(seen.wrong) or ("to the last bit" if seen.exact else "to rounding")
    return f"{number:>3}  {seen.ways:<32} killed: {', '.join(seen.stages) or '–'}: {end}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.comparisons, given.seed))
