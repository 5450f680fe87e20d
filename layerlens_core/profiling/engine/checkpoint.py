"""``profile.partial``: how far a profile has come, so that an interrupted one goes on and ends with the same numbers.

The ledger and the sketches' sums as they stood together at the end of a piece of work, under a header
(`layerlens_core.files.tensors`) with schema, version, generation, identity (what must be the same for the
numbers to be: model, data, settings, versions), how the work is put together, the micro-batch, and what each module was
seen to do.

Of several processes each writes a file of its own, with the units that it has measured itself. Whoever resumes adds up
all files of the last generation, whatever their number, writes the sum as the only file of a new one, and then removes
the old ones: no moment has a sample twice.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.errors import FileError
from layerlens_core.files import tensors as tensor_files
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.schedule import Composition
from layerlens_core.values.profile import PARTIAL_NAME, partial_files

SCHEMA, VERSION = "layerlens/partial", 1
_INSTEAD = "repeat the command as it was, or begin anew with --overwrite instead of --resume"

#: Seconds between two writings, and how many times longer than a writing the work between two of them lasts at least.
SECONDS, SPARING = 5.0, 20.0

#: What a module was seen to do: whether it was called, and reached by the loss; an input that lost its samples.
Seen = tuple[bool, bool, tuple[int, ...] | None]


@frozen(kw_only=True, eq=False)
class State:
    """How far a pass has come. sums: of the range finders, by module. limit: samples in a forward pass, as of now."""

    ledger: Ledger
    sums: Mapping[str, tuple[Tensor, ...]]
    seen: Mapping[str, Seen]
    composition: Composition
    limit: int

    def plus(self, other: "State") -> "State":
        """What two workers did."""
        self.ledger.merge(other.ledger)
        sums = {name: tuple(part.clone() for part in parts) for name, parts in self.sums.items()}
        for name, parts in other.sums.items():
            mine = sums.setdefault(name, tuple(torch.zeros_like(part) for part in parts))
            for total, part in zip(mine, parts, strict=True):
                total.add_(part)
        return State(
            ledger=self.ledger,
            sums=sums,
            seen=together(self.seen, other.seen),
            composition=self.composition,
            limit=min(self.limit, other.limit),
        )


def together(one: Mapping[str, Seen], other: Mapping[str, Seen]) -> dict[str, Seen]:
    """What two workers saw of each module."""
    none: Seen = (False, False, None)
    pairs = {name: (one.get(name, none), other.get(name, none)) for name in {**one, **other}}
    return {name: (a[0] or b[0], a[1] or b[1], a[2] or b[2]) for name, (a, b) in pairs.items()}


@define(kw_only=True, eq=False)
class Partial:
    """The file of one process. run: the run's directory. rank: the process's number. seconds: between two writings.

    identity: what must be the same. generation: of the file, one more with each time that the profile is resumed.
    """

    run: Path
    identity: Mapping[str, str]
    rank: int = 0
    seconds: float = SECONDS
    generation: int = 1
    _next: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._next = time.monotonic() + self.seconds

    @property
    def path(self) -> Path:
        """This process's file."""
        return self.run / (PARTIAL_NAME if self.rank == 0 else f"{PARTIAL_NAME}-{self.rank}")

    def begin(self, empty: Ledger, *, resume: bool) -> State | None:
        """What was done earlier; None where there is nothing, or where it is not wanted: then it is removed.

        For the first process alone, before any other writes. empty: a ledger of the profile, which is filled in.
        Raises `FileError` where a file is damaged, or of another profile.
        """
        for left in self.run.glob(f".{PARTIAL_NAME}*"):  # half written by a process that was killed
            left.unlink(missing_ok=True)
        there = partial_files(self.run)
        read = [_read(path, self.identity, empty) for path in there] if resume else []
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
        """Write it, if it is time."""
        if time.monotonic() < self._next:
            return
        began = time.monotonic()
        self.write(state())
        now = time.monotonic()
        self._next = now + max(self.seconds, SPARING * (now - began) if self.seconds else 0.0)

    def write(self, state: State) -> None:
        """Write it, whole or not at all."""
        tensors = {name: torch.from_numpy(table) for name, table in state.ledger.tables().items()}
        for name, parts in state.sums.items():
            tensors |= {f"{at}/{name}": part.detach().cpu().contiguous() for at, part in enumerate(parts)}
        header = {
            "schema": SCHEMA, "version": VERSION, "generation": self.generation, "identity": dict(self.identity),
            "size": state.composition.size, "singles": state.composition.singles, "limit": state.limit,
            "seen": {name: list(seen) for name, seen in state.seen.items()},
        }  # fmt: skip
        try:
            tensor_files.write(self.path, tensors, header)
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror}") from None


def _read(path: Path, identity: Mapping[str, str], empty: Ledger) -> tuple[int, State]:
    """A file's generation and state. Raises `FileError`."""
    try:
        content = path.read_bytes()
        header = tensor_files.header_of(content)
        if (header["schema"], header["version"]) != (SCHEMA, VERSION):
            raise FileError(
                f"{path} is no {SCHEMA} file of version {VERSION}; begin anew with --overwrite instead of --resume"
            )
        theirs = header["identity"]
        wrong = sorted(name for name in {**theirs, **identity} if theirs.get(name) != identity.get(name))
        if wrong:
            raise FileError(f"{path} is of another run: {_difference(wrong[0], theirs, identity)}; {_INSTEAD}")
        tensors = safetensors.torch.load(content)
        ledger = empty.upto(empty.samples)
        for name, table in ledger.tables().items():
            table[...] = tensors.pop(name).numpy()
        sums: dict[str, list[Tensor]] = {}
        for key in sorted(tensors):  # "0/…" comes before "1/…" of the same module
            sums.setdefault(key.partition("/")[2], []).append(tensors[key])
        return int(header["generation"]), State(
            ledger=ledger,
            sums={name: tuple(parts) for name, parts in sums.items()},
            seen={name: (a, b, None if c is None else tuple(c)) for name, (a, b, c) in header["seen"].items()},
            composition=Composition(header["size"], header["singles"]),
            limit=header["limit"],
        )
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}; begin anew with --overwrite") from None
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError):
        raise FileError(f"{path} is damaged; begin anew with --overwrite instead of --resume") from None


def _difference(name: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """In words. Digests say nothing to people."""
    if name in ("model", "data"):
        return f"it has another {name}"
    return f"its {name} is {theirs.get(name, 'unknown')}, not {ours.get(name, 'unknown')}"
