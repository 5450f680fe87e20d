"""Cores on a model: where their subspaces are found, and how cores are put into them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from peft import PeftModel

from layerlens_core.adaptation.attached import lora_layers
from layerlens_core.adaptation.provided import provided_form
from layerlens_core.errors import FileError, PlanError
from layerlens_core.files.directions import Source, Subspace, read_directions
from layerlens_core.files.run import DIRECTIONS, SUBSPACE
from layerlens_core.values.plan import CORE, Plan

#: What to do where there is no subspace.
ADVICE = "profile with --warm-up 10% (better) or --directions, and allocate again"


def read_subspace_of(plan: Plan, directions: str | Path | None) -> Subspace | None:
    """The subspaces that a plan's cores lie in; None where it has none.

    plan: to be applied.
    directions: the run's directory, or the file.

    Raises `PlanError` where the plan does not say which they are, where they are not given, or where they have fewer
    directions than a core needs, and `FileError` where they are missing, damaged or others.
    """
    sizes = plan.sizes(CORE)
    if not sizes:
        return None
    if plan.subspace is None:
        raise PlanError(f"the plan has cores, and its profile holds no subspaces for them; {ADVICE}")
    if directions is None:
        raise PlanError("the plan has cores: give directions=…, the directory of the run that it was made in")
    _, subspace = find_subspace([Path(directions)], fingerprint=plan.fingerprint, digest=plan.subspace)
    check_ranks(sizes, subspace)
    return subspace


def find_subspace(places: Iterable[Path], *, fingerprint: str, digest: str) -> tuple[Path, Subspace]:
    """The file of a digest, of a warm-up or of the gradient, and what it holds.

    places: files, or directories that may hold it.
    fingerprint: of the inventory of the model at hand.
    digest: of the file.

    Raises `FileError` where no file there has this digest, or where it is of another model.
    """
    tried = [path / name for path in places for name in (SUBSPACE, DIRECTIONS) if path.is_dir()]
    tried += [path for path in places if not path.is_dir()]
    errors = []
    for file in tried:
        if file.is_file():
            try:
                status = file.stat()
                return file, read_once(file.resolve(), status.st_mtime_ns, status.st_size, fingerprint, digest)
            except FileError as error:
                errors.append(error)
    if errors:
        raise errors[0]
    raise FileError(f"{tried[0]} does not exist, but it holds the subspaces that the cores lie in")


@lru_cache(maxsize=2)
def read_once(file: Path, _changed: int, _size: int, fingerprint: str, digest: str) -> Subspace:
    """A file's subspaces, read once for the many adapters that share them; the same ones are given to all."""
    source: Source = "gradient" if file.name == DIRECTIONS else "warm-up"
    return read_directions(file, fingerprint=fingerprint, digest=digest, source=source)


def check_ranks(sizes: Mapping[str, int], subspace: Subspace) -> None:
    """Raises `PlanError` where a core is larger than the subspace at hand.

    sizes: of cores, by module.
    subspace: that they are to lie in.
    """
    for name, size in sizes.items():
        if name not in subspace:
            raise PlanError(f"there is a core on {name}, but no subspace for it; {ADVICE}")
        if size > (found := len(subspace[name].right)):
            raise PlanError(f"the core on {name} has rank {size}, but its subspace has {found} directions")


def place_cores(
    model: PeftModel, subspace: Subspace, *, digest: str, fingerprint: str, adapter: str = "default"
) -> None:
    """Put every core of an adapter into its module's subspace; it adds nothing afterwards.

    model: with cores attached.
    subspace: with as many directions as any core needs.
    digest: of the subspace's file, which the adapter keeps.
    fingerprint: of the inventory, likewise.
    adapter: its name.
    """
    form, config, layers = provided_form(CORE), model.peft_config[adapter], lora_layers(model)
    for name, entry in config.each().items():
        if entry.method == CORE:
            left, right = (torch.from_numpy(part[: entry.size].copy()) for part in subspace[name])
            form.place(layers[name].lora_A[adapter], layers[name].lora_B[adapter], left, right)
    config.subspace, config.fingerprint = digest, fingerprint


def cores_of(model: PeftModel, adapter: str = "default") -> dict[str, torch.nn.Parameter]:
    """The trained R [n, n] of every core, by module.

    model: with an adapter.
    adapter: its name.
    """
    form, layers = provided_form(CORE), lora_layers(model)
    return {
        name: form.trained(layers[name].lora_B[adapter])
        for name, entry in model.peft_config[adapter].each().items()
        if entry.method == CORE
    }
