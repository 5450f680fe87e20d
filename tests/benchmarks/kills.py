"""Runs of ``layerlens plan`` that are killed, that meet each other, and that meet a full disk: what is left of them.

    PYTHONPATH=tests OMP_NUM_THREADS=1 python tests/benchmarks/kills.py [--runs 40] [--sizes 12] [--seed 0]

Each run is a process that SIGKILL ends: a quarter of them between the files that it writes at the end, a quarter over
an old run, the others at any moment. Then the directory must hold the old run, the new one, or what ``--resume``
finishes to the same bits; and nothing hidden once the next command ran. A small disk is a tmpfs where that may be
mounted, and a limit on the size of files elsewhere. Exits with 1 where anything else was seen.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from attrs import define, frozen

import zoo
from cli.rows import rows_of
from layerlens_core.cli import main as layerlens
from layerlens_core.files.run import CHECKPOINT, FILES, TRACE
from layerlens_core.profiling.engine.checkpoint import Checkpoint
from zoo.words import TEMPLATES, tokenizer

MODEL = "llama"
#: What a file takes at least of a small disk, in bytes.
_PAGE = 4096
#: Of a trace, what differs from run to run.
_PASSING = ("timestamp", "run_id", "seconds")


@frozen
class Ended:
    """How a process ended.

    killed: by SIGKILL.
    status: that it exited with.
    said: its standard error.
    happened: how many steps with files it took.
    """

    killed: bool
    status: int
    said: str
    happened: int

    @property
    def one_line(self) -> bool:
        """Whether it refused its work in one line, as bad input is refused, after what it told of the data's rows."""
        *told, error = self.said.splitlines() or [""]
        return self.status == 2 and error.startswith("Error: ") and all(" rows read, " in line for line in told)


@define
class Commands:
    """``layerlens`` in processes that are forked from this one, which has imported everything.

    model: its directory.
    data: a file of texts.
    scratch: a directory of their outputs.
    """

    model: Path
    data: Path
    scratch: Path

    def plan(self, out: Path, *more: str, budget: str = "params=r=2", **how: object) -> Ended:
        """``layerlens plan``, by default for the new run."""
        return self(
            "plan", str(self.model), "--data", str(self.data), "--micro-batch", "4", "--budget", budget,
            "--out", str(out), *more, **how,
        )  # fmt: skip

    def __call__(self, *arguments: str, **how: object) -> Ended:
        """Any command; ``how`` is as in `start`."""
        return self.wait(*self.start(arguments, **how))  # type: ignore[arg-type]

    def start(
        self,
        arguments: tuple[str, ...],
        *,
        fatal: int | None = None,
        delay: float | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> tuple[int, float | None, Path]:
        """Start a command.

        arguments: of the command line.
        fatal: the step with a file at which it is killed.
        delay: seconds after which it is killed.
        before: called in the process first.
        """
        said = Path(tempfile.mkstemp(dir=self.scratch)[1])
        child = os.fork()
        if child:
            return child, delay, said
        status = 1
        try:
            with open(said, "w") as errors, open(os.devnull, "w") as nothing:
                os.dup2(errors.fileno(), 2)
                os.dup2(nothing.fileno(), 1)
            count = _count_steps(fatal)
            before()
            try:
                layerlens(list(arguments))
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            said.with_suffix(".steps").write_text(str(count[0]))
        finally:
            os._exit(status)

    def wait(self, child: int, delay: float | None, said: Path) -> Ended:
        """How a command that was started ends."""
        if delay is not None:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        steps = said.with_suffix(".steps")
        happened = int(steps.read_text()) if steps.exists() and steps.read_text() else 0
        return Ended(os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status), said.read_text(), happened)


def _count_steps(fatal: int | None) -> list[int]:
    """Count what this process does to files, before and after each step, and kill it at one of them."""
    count = [0]

    def happens() -> None:
        count[0] += 1
        if count[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            happens()
            result = function(*arguments, **options)
            happens()
            return result

        return call

    for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    Checkpoint.offer = lambda self, state: self.write(state())  # after every piece of work
    return count


def content(run: Path) -> dict[str, bytes]:
    """What a directory holds, hidden files and folders too; of a trace, what is not of its moment."""
    found = {}
    for path in sorted(run.rglob("*")) if run.exists() else ():
        data = path.read_bytes() if path.is_file() else b""
        if path.name == TRACE:
            events = [json.loads(line) for line in data.decode().split("\n") if line]
            # The seal is of the moments too.
            events = [event for event in events if event["event"] != "trace.sealed"]
            kept = [{name: event[name] for name in event if name not in _PASSING} for event in events]
            for event in kept:
                event.pop("arguments", None)  # --resume, and the directory
            data = json.dumps(kept).encode()
        found[str(path.relative_to(run))] = data
    return found


def hidden(run: Path) -> list[str]:
    """Names in a directory that begin with a dot."""
    return [name for name in os.listdir(run) if name.startswith(".")] if run.exists() else []


@define
class Killed:
    """Kill and look.

    commands: how to start one.
    old_run: the directory of the old run.
    new: content of the new run.
    steps: how many steps with files a whole run takes.
    last_steps: how many of them are those that write its files.
    seconds: that a whole run takes.
    """

    commands: Commands
    old_run: Path
    new: dict[str, bytes]
    steps: int
    last_steps: int
    seconds: float

    def once(self, run: Path, kind: str, pick: random.Random) -> tuple[str, list[str]]:
        """Kill one run. What was found, in words, and what must not be."""
        over = kind == "over an old run"
        more = ["--overwrite"] if over else []
        ended = None
        while ended is None or not ended.killed:  # a moment may come too late
            shutil.rmtree(run, ignore_errors=True)
            if over:
                shutil.copytree(self.old_run, run)
            before = content(run)
            ended = self.commands.plan(run, *more, **self._moment(kind, pick))
        wrong: list[str] = []
        left = hidden(run)
        known = self._explained(run, over, wrong)
        found = content(run)
        partial = {name for name in found if name.startswith(CHECKPOINT)}
        rest = {name: data for name, data in found.items() if name not in partial}
        if rest == self.new:
            state = "the new run"
        elif over and rest == before:
            state = "the old run"
        elif not rest:
            state = "what --resume goes on with" if partial else "nothing"
        else:
            state = "a mixture"
            wrong.append(f"a mixture: {sorted(rest)}")
        if known and hidden(run):
            wrong.append(f"hidden after the next command: {hidden(run)}")
        if state != "the new run":
            resumed = self.commands.plan(run, *more, "--resume")
            if resumed.status:
                wrong.append(f"--resume ended with {resumed.status}: {resumed.said}")
            if content(run) != self.new:
                wrong.append(f"--resume left other bits: {sorted(content(run))}")
        if hidden(run):
            wrong.append(f"hidden in the end: {hidden(run)}")
        kinds = sorted({name.rpartition(".")[0] if "partial" in name else name for name in left})
        return f"{state}{', and ' + ' '.join(kinds) + ' until the next command' if left else ''}", wrong

    def _moment(self, kind: str, pick: random.Random) -> dict[str, object]:
        """When to kill: at a step with a file, or after a time."""
        if kind == "between the files" or (kind == "over an old run" and pick.random() < 0.5):
            return {"fatal": pick.randint(self.steps - self.last_steps, self.steps)}
        if pick.random() < 0.5:
            return {"fatal": pick.randint(1, self.steps)}
        return {"delay": pick.uniform(0, self.seconds)}

    def _explained(self, run: Path, over: bool, wrong: list[str]) -> bool:
        """Run the next command, a reader; whether there was a run to read."""
        told = self.commands("explain", str(run), "0")
        if told.status == 0:
            return True
        if over or not told.one_line or any((run / name).exists() for name in FILES):
            wrong.append(f"explain ended with {told.status}: {told.said}")
        return False


def two_at_once(commands: Commands, root: Path) -> list[str]:
    """Two processes into one directory: what is wrong of how they end."""
    run, ready = root / "two", root / "ready"

    def pause() -> None:
        real = Checkpoint.write

        def write(self: Checkpoint, state: object) -> None:
            real(self, state)  # type: ignore[arg-type]
            ready.touch()
            time.sleep(600)

        Checkpoint.write = write  # type: ignore[assignment,method-assign]

    plan = ("plan", str(commands.model), "--data", str(commands.data), "--micro-batch", "4", "--out", str(run))
    child, _, said = commands.start(plan, before=pause)
    while not ready.exists():
        time.sleep(0.01)
    wrong = []
    for more in ((), ("--overwrite",), ("--resume",)):
        second = commands(*plan, *more)
        if not (second.one_line and "is being written by another process" in second.said):
            wrong.append(f"the second of two with {more} ended with {second.status}: {second.said}")
    os.kill(child, signal.SIGKILL)
    commands.wait(child, None, said)
    third = commands(*plan, "--resume")
    if third.status:
        wrong.append(f"after the kill the directory stayed locked: {third.said}")
    return wrong


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[], object]]:
    """A disk of so many bytes at a directory; what a process has to call where it is but a limit."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={max(size, _PAGE)}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode == 0:
        try:
            yield lambda: None
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
        return

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    yield limit


def full_disks(commands: Commands, old_run: Path, root: Path, sizes: int) -> tuple[Counter[str], list[str]]:
    """Plan over an old run where the disk is full, at so many sizes: what was seen, and what is wrong."""
    seen: Counter[str] = Counter()
    wrong = []
    whole = sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in old_run.iterdir()) + _PAGE
    largest = max(path.stat().st_size for path in old_run.iterdir())
    for number in range(sizes):
        place = root / f"disk-{number}"
        spare = int((0.55 * whole if _mounts() else largest) * number / sizes)  # a new run takes a little more
        with small_disk(place, whole + spare if _mounts() else max(spare, 1)) as limit:
            run = place / "run"
            shutil.copytree(old_run, run)
            before = content(run)
            ended = commands.plan(run, "--overwrite", before=limit)
            after = {name: data for name, data in content(run).items() if not name.startswith(CHECKPOINT)}
            if ended.status == 0:
                seen["enough room, and the new run"] += 1
                continue
            seen["one line, and the old run" if ended.one_line and after == before else "something else"] += 1
            if not ended.one_line:
                wrong.append(f"with {spare} bytes to spare it ended with {ended.status}: {ended.said}")
            if after != before or hidden(run):
                wrong.append(f"with {spare} bytes to spare the old run changed: {sorted(after)} {hidden(run)}")
    return seen, wrong


def _mounts() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


def prepared(root: Path) -> Commands:
    """A tiny model and data in a directory, and commands on them."""
    torch.set_num_threads(1)
    template = TEMPLATES[f"{MODEL}-words"]
    zoo.build(f"{MODEL}-words", spread=0.2).save_pretrained(root / "model")
    tokenizer(template).save_pretrained(root / "model")
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of("text")))
    (root / "said").mkdir()
    return Commands(root / "model", root / "data.jsonl", root / "said")


def watched(commands: Commands, root: Path) -> Killed:
    """An old run and a new one, whole, and how many steps they take."""
    old = commands.plan(root / "old", "--seed", "1", "--directions", budget="params=r=1")
    began = time.monotonic()
    new = commands.plan(root / "new")
    seconds = time.monotonic() - began
    if old.status or new.status:
        raise RuntimeError(old.said + new.said)
    return Killed(commands, root / "old", content(root / "new"), new.happened, 40, seconds)


def main(runs: int, sizes: int, seed: int) -> int:
    """Kill, meet and fill; prints what was seen, and returns 1 where anything was wrong."""
    root = Path(tempfile.mkdtemp(prefix="layerlens-kills-"))
    seen: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    try:
        commands = prepared(root)
        killed = watched(commands, root)
        for number in range(runs):
            kind = ("between the files", "over an old run", "at any moment", "at any moment")[number % 4]
            told, faults = killed.once(root / f"run-{number}", kind, random.Random(seed * 1000 + number))
            seen[kind, told] += 1
            wrong += [f"run {number}, {kind}: {fault}" for fault in faults]
        for (kind, told), count in sorted(seen.items()):
            print(f"{count:>4}  killed {kind}: {told}")
        meeting = two_at_once(commands, root)
        print("   1  two processes into one directory: " + ("; ".join(meeting) or "the second is refused in one line"))
        disks, faults = full_disks(commands, root / "old", root, sizes)
        for told, count in sorted(disks.items()):
            print(f"{count:>4}  full disk: {told}")
        wrong += [*meeting, *faults]
    finally:
        with suppress(OSError):
            shutil.rmtree(root)
    for fault in wrong:
        print("WRONG", fault)
    print("all as it should be" if not wrong else f"{len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--sizes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.runs, given.sizes, given.seed))
