"""Who reads which file: the registry, and the readers of a run's files.

To add one: a function that takes a directory and returns a `Reader`, and its name in ``READERS`` of
`mutation.registry`.
"""

import io
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.explanation import explain
from layerlens_core.cli.tables import print_explanation, print_plan
from layerlens_core.files import run as files
from layerlens_core.files.directions import Source, read_directions, write_directions
from layerlens_core.files.trace import lines
from layerlens_core.profiling.engine.checkpoint import Checkpoint, State
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.schedule import Composition
from layerlens_core.profiling.profile import profile
from layerlens_core.profiling.warming.options import WarmUpOptions
from layerlens_core.values.plan import Plan, load_run
from layerlens_core.values.profile import Profile
from mutation.content import Mutation, as_json, as_lines, as_lines_sealed_again, as_safetensors, bytewise


@frozen(kw_only=True)
class Reader:
    """A reader, and valid files to change.

    folder: that holds valid files; a copy of it is changed and read.
    targets: the files to change, and how each may be.
    read: reads a folder as a command would; what it returns is what the files mean.
    same: whether two meanings are equal.
    again: what is read from a meaning that was written anew, into an empty folder.
    """

    folder: Path
    targets: Mapping[str, Sequence[Mutation]]
    read: Callable[[Path], Any]
    same: Callable[[Any, Any], bool] = lambda one, other: bool(one == other)
    again: Callable[[Any, Path], Any]

    def change(self, place: Path, pick: random.Random) -> str:
        """Copy the folder to a place and change one of its files; says which, and how."""
        shutil.copytree(self.folder, place)
        name = pick.choice(sorted(self.targets))
        how = pick.choice(self.targets[name])
        path = place / name
        path.write_bytes(how(path.read_bytes(), pick))
        return f"{name}, {how.__name__}"


def quiet(function: Callable[[], object]) -> None:
    """What is printed goes nowhere."""
    with redirect_stdout(io.StringIO()):
        function()


def a_run(folder: Path) -> Path:
    """A whole run of a tiny model, with the side files of directions and of a warm-up's subspaces."""
    import zoo
    from zoo.profiled import build, samples

    if (folder / files.PLAN).exists():
        return folder
    family = zoo.find("llama")
    import torch

    model = build(family, torch.float32)
    with tracing.to_file(folder, run_id="0"):
        tracing.run_started("plan", {"data": "data.jsonl"}, {"python": "3"})
        warm_up = WarmUpOptions(length=2, rank=4, batch=4, folder=folder)
        found = profile(
            model, samples(family), metrics=("fisher", "weight_gradient"), spectrum=True, directions=folder,
            warm_up=warm_up,
        )  # fmt: skip
        planned = allocate(found, options={"quantiles": "0.5"}, strategy="threshold")
    found.save(folder)
    planned.save(folder)
    return folder


def plan_reader(root: Path) -> Reader:
    """``explain RUN``: the plan, beside its profile, and the table of it."""

    def read(run: Path) -> Plan:
        plan, beside = load_run(run)
        quiet(lambda: print_plan(plan, beside))
        return plan

    def again(plan: Plan, place: Path) -> Plan:
        plan.check()
        plan.save(place)
        return Plan.load(place)

    return Reader(
        folder=a_run(root / "run"), targets={files.PLAN: (as_json, as_json, bytewise)}, read=read, again=again
    )


def profile_reader(root: Path) -> Reader:
    """``allocate RUN``: the profile, a plan from it, and the table of that."""
    folder = root / "profile"
    if not folder.exists():
        folder.mkdir()
        shutil.copy(a_run(root / "run") / files.PROFILE, folder)

    def read(run: Path) -> Profile:
        found = Profile.load(run)
        planned = allocate(found, margins=False)
        quiet(lambda: print_plan(planned, found))
        return found

    def again(found: Profile, place: Path) -> Profile:
        found.save(place)
        return Profile.load(place)

    return Reader(folder=folder, targets={files.PROFILE: (as_json, as_json, bytewise)}, read=read, again=again)


def trace_reader(root: Path) -> Reader:
    """``explain RUN LAYER``: the trace, beside its plan and profile."""

    def read(run: Path) -> list[dict[str, Any]]:
        plan = Plan.load(run)
        for layer in ("0", str(len(plan.decisions) - 1)):
            explanation = explain(run, layer)
            quiet(lambda explanation=explanation: print_explanation(explanation, plan))  # type: ignore[misc]
        return tracing.read(run)

    def again(events: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
        (place / files.TRACE).write_text(lines.written(events), encoding="utf-8")
        return tracing.read(place)

    targets = {files.TRACE: (as_lines_sealed_again, as_lines_sealed_again, as_lines, bytewise)}
    return Reader(folder=a_run(root / "run"), targets=targets, read=read, same=as_text, again=again)


def directions_reader(root: Path) -> Reader:
    """``apply --init gradient``: the side file, with and without the digest that the profile holds of it."""
    return _vectors_reader(root, "gradient", files.DIRECTIONS)


def subspace_reader(root: Path) -> Reader:
    """Cores along a warm-up: likewise its side file."""
    return _vectors_reader(root, "warm-up", files.SUBSPACE)


def _vectors_reader(root: Path, source: Source, name: str) -> Reader:
    run = a_run(root / "run")
    found = Profile.load(run)
    fingerprint = found.inventory.fingerprint
    digest = found.directions if source == "gradient" or found.warm_up is None else found.warm_up.digest
    folder = root / Path(name).stem
    if not folder.exists():
        folder.mkdir()
        shutil.copy(run / name, folder)
    valid = read_directions(run, fingerprint=fingerprint, source=source)

    def read(place: Path) -> dict[str, Any]:
        vectors = dict(read_directions(place, fingerprint=fingerprint, source=source))
        if sum((place / name).read_bytes()) % 2:
            recorded = dict(read_directions(place, fingerprint=fingerprint, digest=digest, source=source))
            if not same_pairs(recorded, dict(valid)):
                raise AssertionError("another content has the digest")
        return vectors

    def again(vectors: dict[str, Any], place: Path) -> dict[str, Any]:
        write_directions(place, vectors, fingerprint=fingerprint, seed=0, samples=1, source=source)
        return dict(read_directions(place, fingerprint=fingerprint, source=source))

    targets = {name: (as_safetensors, bytewise)}
    return Reader(folder=folder, targets=targets, read=read, same=same_pairs, again=again)


def checkpoint_reader(root: Path) -> Reader:
    """``--resume``: the checkpoint. Whatever is accepted must be what was written."""
    import torch

    modules = [f"layers.{layer}.{name}" for layer in range(3) for name in ("up", "down")]
    empty = Ledger.empty(modules, 8, 2, ("gradient_norms", "weight_gradient"))
    filled = empty.upto(8)
    draw = np.random.default_rng(0)
    for table in filled.tables().values():
        table[...] = draw.random(table.shape)
    sums = {name: (torch.rand(4, 3), torch.rand(2, 3)) for name in modules}
    from layerlens_core.profiling.engine.recorder import Sights

    sights = {name: Sights(True, True, "its rows were mixed" if at else None) for at, name in enumerate(modules)}
    identity = {"model": "a" * 64, "data": "b" * 64, "seed": "0"}
    folder = root / "checkpoint"
    written = State(ledger=filled, sums=sums, sights=sights, composition=Composition(4, 1), micro_batch=4)
    if not folder.exists():
        folder.mkdir()
        Checkpoint(run=folder, fingerprint=identity).write(written)

    def read(place: Path) -> Any:
        state = Checkpoint(run=place, fingerprint=identity).begin(empty, resume=True)
        if state is None:
            raise AssertionError("the checkpoint was not seen")
        return _told(state)

    def again(_told_of: Any, _place: Path) -> Any:
        return _told(written)

    targets = {files.CHECKPOINT: (as_safetensors, bytewise)}
    return Reader(folder=folder, targets=targets, read=read, again=again)


def _told(state: State) -> Any:
    """A state as plain values."""
    tables = {name: table.tobytes() for name, table in state.ledger.tables().items()}
    sums = {name: [part.numpy().tobytes() for part in parts] for name, parts in state.sums.items()}
    return tables, sums, dict(state.sights), state.composition, state.micro_batch


def as_text(one: Any, other: Any) -> bool:
    """Whether two values are written alike, NaN too."""
    return json.dumps(one, sort_keys=True, default=repr) == json.dumps(other, sort_keys=True, default=repr)


def same_pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two mappings hold the same pairs of arrays, to the last bit."""
    return one.keys() == other.keys() and all(same_arrays(one[name]._asdict(), other[name]._asdict()) for name in one)


def same_arrays(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two mappings hold the same arrays, to the last bit."""
    return one.keys() == other.keys() and all(
        (one[name].shape, one[name].dtype, one[name].tobytes())
        == (other[name].shape, other[name].dtype, other[name].tobytes())
        for name in one
    )
