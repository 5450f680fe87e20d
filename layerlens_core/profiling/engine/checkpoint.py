"""``profile.partial``: a checkpoint of a profile, so that an interrupted one goes on and ends with the same numbers.

It holds the ledger and the sketches' sums, both as of the end of the same piece of work, under a header
(`layerlens_core.files.tensors`) with schema, version, generation, fingerprint
(`layerlens_core.profiling.engine.fingerprint`), how chunks are put together, the micro-batch, and what each module was
seen to do.

Of several processes each writes a file of its own, with the chunks that it has measured itself. A resumed run adds up
all files of the last generation, whatever their number, writes the sum as the only file of a new generation, and then
removes the old ones: at no moment is a sample counted twice.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from attrs import astuple, define, field, frozen
from torch import Tensor

from layerlens_core.errors import FileError
from layerlens_core.files import tensors
from layerlens_core.files.run import CHECKPOINT, checkpoints
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.recorder import Sights
from layerlens_core.profiling.engine.schedule import Composition
from layerlens_core.profiling.engine.settings import SECONDS

SCHEMA, VERSION = "layerlens/partial", 2
_INSTEAD = "repeat the command as it was, or begin anew with --overwrite instead of --resume"

#: The work between two checkpoints lasts at least this many times as long as writing one.
SPARING = 20.0


@frozen(kw_only=True, eq=False)
class State:
    """How far a pass has come.

    ledger: what is known of every sample.
    sums: of the range finders, by module.
    sights: what each module was seen to do, by module.
    composition: how chunks are put together.
    micro_batch: samples in a forward pass, as of now.
    """

    ledger: Ledger
    sums: Mapping[str, tuple[Tensor, ...]]
    sights: Mapping[str, Sights]
    composition: Composition
    micro_batch: int

    def plus(self, other: "State") -> "State":
        """This state and another worker's as one."""
        self.ledger.merge(other.ledger)
        sums = {name: tuple(part.clone() for part in parts) for name, parts in self.sums.items()}
        for name, parts in other.sums.items():
            mine = sums.setdefault(name, tuple(torch.zeros_like(part) for part in parts))
            for total, part in zip(mine, parts, strict=True):
                total.add_(part)
        return State(
            ledger=self.ledger,
            sums=sums,
            sights=merged_sights(self.sights, other.sights),
            composition=self.composition,
            micro_batch=min(self.micro_batch, other.micro_batch),
        )


def merged_sights(one: Mapping[str, Sights], other: Mapping[str, Sights]) -> dict[str, Sights]:
    """What two workers saw of each module."""
    return {name: one.get(name, Sights()).merged(other.get(name, Sights())) for name in {**one, **other}}


@define(kw_only=True, eq=False)
class Checkpoint:
    """The file of one process.

    run: the run's directory.
    fingerprint: by name, what must be the same for a run to go on from it.
    rank: the process's number.
    seconds: between two checkpoints.
    generation: of the file; each resumed run begins a new one.
    """

    run: Path
    fingerprint: Mapping[str, str]
    rank: int = 0
    seconds: float = SECONDS
    generation: int = 1
    _next: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._next = time.monotonic() + self.seconds

    @property
    def path(self) -> Path:
        """This process's file."""
        return self.run / (CHECKPOINT if self.rank == 0 else f"{CHECKPOINT}-{self.rank}")

    def begin(self, empty: Ledger, *, resume: bool) -> State | None:
        """What was done earlier; None where there is nothing, or where it is not wanted: then it is removed.

        Only the first process calls it, before any other writes.

        empty: a ledger of the profile without numbers, which tells the shapes; what was done earlier is a copy, filled
            in.
        resume: whether to go on from what was done earlier.

        Raises `FileError` where a file is damaged, or of another profile.
        """
        for left in self.run.glob(f".{CHECKPOINT}*"):  # half written by a process that was killed
            left.unlink(missing_ok=True)
        there = checkpoints(self.run)
        read = [_read(path, self.fingerprint, empty) for path in there] if resume else []
        latest = max((generation for generation, _ in read), default=0)
        states = [state for generation, state in read if generation == latest]
        self.generation = latest + 1
        if not states:
            for path in there:
                path.unlink()
            return None
        state = states[0]
        for other in states[1:]:
            state = state.plus(other)
        self.write(state)
        for path in there:
            if path != self.path:
                path.unlink(missing_ok=True)
        return state

    def offer(self, state: Callable[[], State]) -> None:
        """Write a checkpoint if it is time; the state is asked for only then."""
        if time.monotonic() < self._next:
            return
        began = time.monotonic()
        self.write(state())
        now = time.monotonic()
        self._next = now + max(self.seconds, SPARING * (now - began) if self.seconds else 0.0)

    def write(self, state: State) -> None:
        """Write the state, whole or not at all."""
        arrays = dict(state.ledger.tables())
        for name, parts in state.sums.items():
            arrays |= {f"{at}/{name}": part.detach().cpu().numpy() for at, part in enumerate(parts)}
        header = {
            "schema": SCHEMA, "version": VERSION, "generation": self.generation,
            "fingerprint": dict(self.fingerprint), "samples": state.composition.samples,
            "singles": state.composition.singles, "micro_batch": state.micro_batch,
            "sights": {name: astuple(sights) for name, sights in state.sights.items()},
        }  # fmt: skip
        try:
            tensors.write(self.path, arrays, header)
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror}") from None


def _read(path: Path, fingerprint: Mapping[str, str], empty: Ledger) -> tuple[int, State]:
    """A file's generation and state. Raises `FileError`."""
    try:
        content = path.read_bytes()
        header = tensors.header_of(content)
        if (header["schema"], header["version"]) != (SCHEMA, VERSION):
            raise FileError(
                f"{path} is no {SCHEMA} file of version {VERSION}; begin anew with --overwrite instead of --resume"
            )
        theirs = header["fingerprint"]
        wrong = sorted(name for name in {**theirs, **fingerprint} if theirs.get(name) != fingerprint.get(name))
        if wrong:
            raise FileError(f"{path} is of another run: {_difference(wrong[0], theirs, fingerprint)}; {_INSTEAD}")
        arrays = tensors.arrays_of(content)
        ledger = empty.upto(empty.samples)
        for name, table in ledger.tables().items():
            table[...] = arrays.pop(name)
        sums: dict[str, list[Tensor]] = {}
        for key in sorted(arrays):  # "0/…" comes before "1/…" of the same module
            sums.setdefault(key.partition("/")[2], []).append(torch.from_numpy(arrays[key].copy()))
        return int(header["generation"]), State(
            ledger=ledger,
            sums={name: tuple(parts) for name, parts in sums.items()},
            sights={name: Sights(a, b, c) for name, (a, b, c) in header["sights"].items()},
            composition=Composition(header["samples"], header["singles"]),
            micro_batch=header["micro_batch"],
        )
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}; begin anew with --overwrite") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{path} is damaged; begin anew with --overwrite instead of --resume") from None


def _difference(name: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """What differs, in words; digests are left out, as they say nothing to people."""
    if name in ("model", "data"):
        return f"it has another {name}"
    return f"its {name} is {theirs.get(name, 'unknown')}, not {ours.get(name, 'unknown')}"
