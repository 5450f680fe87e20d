"""What becomes of a changed file: refused by name, read as what it says, or a fault. In a process with bounds."""

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from layerlens_core.errors import LayerLensError
from mutation.readers import Reader

#: Seconds and bytes that one file may take to be read.
SECONDS, MEMORY = 5.0, 1 << 30
#: Seconds after which a process that does not even answer is ended.
_PATIENCE = 30.0
#: Characters of a refusal; more are no line to read.
LONGEST = 1500


class TooSlow(BaseException):
    """A file took longer than `SECONDS`; no reader catches this."""


@define
class Judgement:
    """What became of the files of one reader.

    files: how many.
    refused: by an error of LayerLens's, in a line.
    equal: accepted, and equal in meaning to what they were made from.
    other: accepted, and what they then say.
    faults: all else, each with the number of its file, from which it can be made again.
    slowest: seconds that one took.
    memory: bytes that the process took more than before, at its peak.
    """

    files: int = 0
    refused: int = 0
    equal: int = 0
    other: int = 0
    faults: list[str] = field(factory=list)
    slowest: float = 0.0
    memory: int = 0


def judge(reader: Reader, root: Path, count: int, seed: str) -> Judgement:
    """Change and read so many files, in processes that are forked.

    reader: the reader, which must read what is valid.
    root: an empty directory to work in.
    count: of files.
    seed: with the number of a file it draws the change.
    """
    total, begin = Judgement(files=count), 0
    while begin < count:
        begin = _batch(reader, root, begin, count, seed, total)
    return total


def _batch(reader: Reader, root: Path, begin: int, end: int, seed: str, total: Judgement) -> int:
    """Read files from a number on; the number of the first that is still to be read."""
    get, put = os.pipe()
    child = os.fork()
    if not child:
        os.close(get)
        try:
            _work(reader, root, begin, end, seed, put)
        finally:
            os._exit(0)
    os.close(put)
    done = begin
    watch = _Watch(child)
    with open(get, "rb") as told:
        for line in iter(told.readline, b""):
            watch.seen()
            number, kind, detail, seconds, memory = json.loads(line)
            done = number + 1
            total.slowest = max(total.slowest, seconds)
            total.memory = max(total.memory, memory)
            if kind == "fault":
                total.faults.append(f"file {number}: {detail}")
            else:
                setattr(total, kind, getattr(total, kind) + 1)
    watch.end()
    os.waitpid(child, 0)
    if done < end:
        total.faults.append(f"file {done}: the process ended or did not answer")
        return done + 1
    return done


class _Watch:
    """Ends a process that tells nothing for too long: code that is not Python hears no signal."""

    def __init__(self, child: int) -> None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
        self.seen()

    def seen(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _work(reader: Reader, root: Path, begin: int, end: int, seed: str, put: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(nothing, "w", closefd=False))
    original = reader.read(reader.folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open("/proc/self/statm") as told:
        size = int(told.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    with open(put, "wb", buffering=0) as out:
        for number in range(begin, end):
            place = root / f"{number}"
            began = time.monotonic()
            kind, detail = _judged(reader, original, place, random.Random(f"{seed} {number}"))
            seconds = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(f"{place}-again", ignore_errors=True)
            out.write(json.dumps([number, kind, detail, seconds, peak]).encode() + b"\n")


def _judged(reader: Reader, original: Any, place: Path, pick: random.Random) -> tuple[str, str]:
    """What became of one file, in a word, and a fault in words."""
    how = ""
    try:
        with _limited():
            how = reader.change(place, pick)
            try:
                found = reader.read(place)
            except LayerLensError as error:
                wrong = "\n" in str(error) or len(str(error)) > LONGEST or not str(error).strip()
                return ("fault", f"{how}: no line: {str(error)[:200]!r}") if wrong else ("refused", "")
            if reader.same(original, found):
                return "equal", ""
            anew = Path(f"{place}-again")
            anew.mkdir()
            if reader.same(found, reader.again(found, anew)):
                return "other", ""
            return "fault", f"{how}: it is read as something else once it is written anew"
    except (Exception, TooSlow) as error:
        steps = traceback.extract_tb(error.__traceback__)
        own = [step for step in steps if "layerlens" in step.filename] or steps
        at = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        return "fault", f"{how}: {type(error).__name__} at {at}: {' '.join(str(error).split())[:160]}"


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
