"""``profile.partial``: a checkpoint of a profile, so that an interrupted one goes on and ends with the same numbers.

It holds the ledger and the sketches' sums, both as of the end of the same piece of work, under a header
(`layerlens_core.files.tensors`) with schema, version, generation, fingerprint
(`layerlens_core.profiling.engine.fingerprint`), how chunks are put together, the micro-batch, what each module was
seen to do, and a digest of all this, so that a file that was changed is not gone on from.

Of several processes each writes a file of its own, with the chunks that it has measured itself. A resumed run adds up
all files of the last generation, whatever their number, writes the sum as the only file of a new generation, and then
removes the old ones: at no moment is a sample counted twice.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import astuple, define, field, frozen
from torch import Tensor

from layerlens_core.errors import FileError, brief
from layerlens_core.files import tensors
from layerlens_core.files.reading import read_file
from layerlens_core.files.run import CHECKPOINT, checkpoints
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.recorder import Sights
from layerlens_core.profiling.engine.schedule import Composition
from layerlens_core.profiling.engine.settings import SECONDS

SCHEMA, VERSION = "layerlens/partial", 3
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
        """Write the state, whole or not at all. Raises `FileError`."""
        arrays = dict(state.ledger.tables())
        for name, parts in state.sums.items():
            arrays |= {f"{at}/{name}": part.detach().cpu().numpy() for at, part in enumerate(parts)}
        header = {
            "schema": SCHEMA, "version": VERSION, "generation": self.generation,
            "fingerprint": dict(self.fingerprint), "samples": state.composition.samples,
            "singles": state.composition.singles, "micro_batch": state.micro_batch,
            "sights": {name: astuple(sights) for name, sights in state.sights.items()},
        }  # fmt: skip
        tensors.write(self.path, arrays, {**header, "digest": tensors.digest(arrays, header)})


def _read(path: Path, fingerprint: Mapping[str, str], empty: Ledger) -> tuple[int, State]:
    """A file's generation and state. Raises `FileError`."""
    content = read_file(path, advice="begin anew with --overwrite", most=None)
    try:
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
        if header.pop("digest") != tensors.digest(arrays, header):
            raise ValueError("its content is not what was written")
        return _whole(header["generation"], least=1), _state(header, arrays, empty)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise FileError(f"{path} is damaged; begin anew with --overwrite instead of --resume") from None


def _state(header: Mapping[str, Any], arrays: tensors.Arrays, empty: Ledger) -> State:
    """The state that a file holds. Raises ``ValueError``, ``KeyError`` or ``TypeError`` where it cannot be one.

    header: of the file.
    arrays: of the file, which are taken out.
    empty: tells the shapes.
    """
    ledger = empty.upto(empty.samples)
    for name, table in ledger.tables().items():
        found = arrays.pop(name)
        if (found.shape, found.dtype) != (table.shape, table.dtype) or np.isinf(found).any():
            raise ValueError(f"the table {name} is of another shape")
        table[...] = found
    modules = set(ledger.modules)
    sums: dict[str, list[Tensor]] = {}
    for key in sorted(arrays):  # "0/…" comes before "1/…" of the same module
        at, _, name = key.partition("/")
        parts = sums.setdefault(name, [])
        if name not in modules or at != str(len(parts)) or not np.isfinite(arrays[key]).all():
            raise ValueError(f"there is no sum {key}")
        parts.append(torch.from_numpy(arrays[key].copy()))
    if not header["sights"].keys() <= modules:
        raise ValueError("a module is not there")
    return State(
        ledger=ledger,
        sums={name: tuple(parts) for name, parts in sums.items()},
        sights={name: _sights(*seen) for name, seen in header["sights"].items()},
        composition=Composition(_whole(header["samples"], least=1), _whole(header["singles"], least=0)),
        micro_batch=_whole(header["micro_batch"], least=1),
    )


def _sights(called: bool, reached: bool, lost: str | None) -> Sights:
    if not (isinstance(called, bool) and isinstance(reached, bool)):
        raise TypeError("what a module was seen to do is true or false")
    if not isinstance(lost, str | None):
        raise TypeError("why rows were lost is a text")
    return Sights(called, reached, lost)


def _whole(number: object, *, least: int) -> int:
    if type(number) is not int or not least <= number < 1 << 63:
        raise ValueError(f"{number!r} is no whole number from {least} on")
    return number


def _difference(name: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """What differs, in words; digests are left out, as they say nothing to people."""
    if name in ("model", "data"):
        return f"it has another {name}"
    return brief(f"its {name} is {theirs.get(name, 'unknown')}, not {ours.get(name, 'unknown')}")
