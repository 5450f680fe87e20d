"""The plan: for every layer a method and a size with the reason, ready to be applied."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import attrs
from attrs import frozen

from layerlens_core.errors import FileError, PlanError, brief
from layerlens_core.files import documents
from layerlens_core.files.atomic import settle
from layerlens_core.files.run import PLAN
from layerlens_core.lazy import imported
from layerlens_core.values.consistency.plan import check_plan
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.decisions import Certificate, Decision
from layerlens_core.values.inventory import Head, Inventory
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request
from layerlens_core.values.table import Rows, rows_of

SCHEMA, VERSION = "layerlens/plan", 5

#: The methods whose sizes are ranks of updates that PEFT attaches: to linear modules, and to stacked experts too.
LORA_METHODS = frozenset({"lora", "lora-experts", "core"})
#: Of these, the one whose update is a trained core between frozen factors.
CORE = "core"


@frozen(kw_only=True)
class Plan:
    """What to train in a model. The same inputs give a plan that is equal to the byte.

    profile: SHA-256 of the file of the profile that it was made from, in hexadecimal.
    architecture: name of the model's class.
    fingerprint: of the model's inventory; `apply` refuses any other model.
    shapes: of the inventory's places, by which `apply` names what differs.
    task: that of the profile.
    request: what was asked for, resolved: every metric's weight, every method's penalty.
    limits: what is allowed, the frozen model included.
    cost: what is planned, the frozen model included; heads come on top of the trainable parameters.
    decisions: one a layer, in the order of the model.
    certificate: from strategies that can prove how near to the best plan theirs is.
    heads: task heads that train in full.
    directions: sha256 digest of the profile's side file of singular vectors, where there is one, for ``apply``'s
        gradient-aligned start.
    subspace: sha256 digest of the file with the subspaces that its cores lie in; None where it has no cores.
    abstained: why the plan is uniform though another strategy was asked for; None where it is that strategy's.
    notes: sentences on the whole plan: what a budget forced, and what of it is left.
    """

    profile: str
    architecture: str
    fingerprint: str
    shapes: Mapping[str, Mapping[str, int]]
    task: str
    request: Request
    limits: Limits
    cost: Cost
    decisions: tuple[Decision, ...]
    certificate: Certificate | None = None
    heads: tuple[Head, ...] = ()
    directions: str | None = None
    subspace: str | None = None
    abstained: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file, in hexadecimal, by which recipe and trace name it."""
        return documents.digest(self, schema=SCHEMA, version=VERSION)

    @property
    def scale(self) -> int:
        """α/r of every LoRA module."""
        return self.request.scale

    @property
    def parameters(self) -> int:
        """Trainable parameters of the methods; heads come on top."""
        return self.cost.params

    @property
    def limit(self) -> int | None:
        """The most trainable parameters that the budget allows, where it bounds them."""
        return self.limits.params

    @property
    def head_parameters(self) -> int:
        """Trainable parameters of the task heads, which train in full beside the plan."""
        return sum(head.parameters for head in self.heads)

    def sizes(self, method: str) -> dict[str, int]:
        """Size by module over all layers that were given this method."""
        return {
            module: size
            for decision in self.decisions
            if decision.method == method
            for module, size in decision.sizes.items()
            if size > 0
        }

    def difference(self, inventory: Inventory) -> str | None:
        """How a model differs from the planned one, in words; None where it does not."""
        # The fingerprint leaves heads out: a causal model and a classifier can have the same layers.
        same = (inventory.fingerprint, inventory.heads) == (self.fingerprint, self.heads)
        if same and {name: dict(shape) for name, shape in self.shapes.items()} == inventory.shapes:
            return None
        message = f"the plan is for another model: {self.architecture}, but this is {inventory.architecture}"
        have, planned = inventory.shapes, self.shapes
        missing = [name for name in planned if name not in have]
        if missing:
            return message + f"; it has no module {missing[0]} ({len(missing)} planned modules are missing)"
        others = [name for name in planned if dict(planned[name]) != dict(have[name])]
        if others:
            shapes = " where planned was ".join(_spell(of[others[0]]) for of in (have, planned))
            return message + f"; {others[0]} is of {shapes} ({len(others)} modules differ)"
        added = [name for name in have if name not in planned]
        if added:
            return message + f"; it has {added[0]}, which was not there ({len(added)} modules more)"
        if inventory.heads != self.heads:
            have_heads, planned_heads = (
                ", ".join(f"{head.name} of {head.parameters:,} parameters" for head in heads) or "none"
                for heads in (inventory.heads, self.heads)
            )
            return message + f"; its heads are {have_heads}, planned were {planned_heads}"
        return message + "; its modules are the same, but it is of another kind, or they are in another order"

    def table(self) -> Rows:
        """One row a layer, in the order of the model: its name, utility, method, size and parameters.

        A list of dicts, which ``print`` aligns.
        """
        return rows_of(self)

    def __repr__(self) -> str:
        methods = Counter(decision.method for decision in self.decisions)
        counts = ", ".join(f"{count} {method}" for method, count in methods.items())
        asked = " ".join(self.request.budget) or "unlimited"
        return f"Plan({self.architecture}, {counts}; {self.parameters:,} parameters for {asked})"

    def _repr_html_(self) -> str:
        """Method and size of every module, as notebooks show it (`layerlens_core.reporting.notebook`)."""
        return str(imported("reporting.notebook", "of_plan")(self))

    def save(self, run: str | Path) -> Path:
        """Write ``plan.json`` into the run's directory. Raises `FileError`, where another process writes there too."""
        return documents.write_into(run, PLAN, self, schema=SCHEMA, version=VERSION)

    @classmethod
    def load(cls, run: str | Path) -> "Plan":
        """Read the plan of a run. Raises `FileError`, where it contradicts itself too."""
        path = Path(run) / PLAN
        settle(path.parent)
        again = f"remove it, and plan anew with: layerlens allocate {run}"
        plan, digest = documents.read_named(path, cls, schema=SCHEMA, version=VERSION, again=again)
        try:
            plan.check()
        except PlanError as error:
            raise FileError(f"{path} was changed or damaged: {brief(error)}") from None
        documents.remember_digest(plan, digest)
        return plan

    def check(self) -> None:
        """Raises `PlanError` where the plan contradicts itself, in names, sizes, sums or limits."""
        if not self.scale > 0:
            raise PlanError(f"the plan's scale α/r is {self.scale:g}; it must be above 0")
        units: set[str] = set()
        places: set[str] = set()
        for decision in self.decisions:
            _check_decision(decision, self.shapes)
            if decision.unit in units:
                raise PlanError(f"{decision.unit} is decided twice")
            units.add(decision.unit)
            if twice := places.intersection(decision.sizes):
                raise PlanError(f"{min(twice)} is decided twice, in {decision.unit} and before")
            places.update(decision.sizes)
        if (params := sum(decision.parameters for decision in self.decisions)) != self.parameters:
            raise PlanError(
                f"the plan is for {self.parameters:,} trainable parameters, but its decisions are for {params:,}"
            )
        for name in self.cost.exceeded(self.limits):
            raise PlanError(
                f"it plans {getattr(self.cost, name):,.10g} of {name}, above its own limit of "
                f"{self.limits.bounds[name]:,.10g}"
            )
        try:
            check_plan(self, LORA_METHODS)
        except ValueError as error:
            raise PlanError(str(error)) from None

    def check_profile(self, profile: Profile) -> None:
        """Raises `PlanError` where the plan was not made from this profile, as far as the two tell."""
        inventory = profile.inventory
        same = {
            "model": (self.fingerprint, inventory.fingerprint),
            "shapes": ({name: dict(shape) for name, shape in self.shapes.items()}, inventory.shapes),
            "heads": (self.heads, inventory.heads),
            "layers": ([decision.unit for decision in self.decisions], [layer.name for layer in inventory.layers]),
            "task": (self.task, profile.task),
            "directions": (self.directions, profile.directions),
        }
        for name, (planned, profiled) in same.items():
            if planned != profiled:
                raise PlanError(f"the plan was not made from this profile: its {name} differ")
        if self.profile != profile.digest:
            raise PlanError(
                f"the plan was not made from this profile: it names {self.profile[:12]}…, and this one's SHA-256 is "
                f"{profile.digest[:12]}…"
            )


def load_run(run: str | Path) -> tuple[Plan, Profile]:
    """The plan and the profile of a run. Raises `FileError`, where they do not belong together too."""
    plan, profile = Plan.load(run), Profile.load(run)
    try:
        plan.check_profile(profile)
    except PlanError as error:
        raise FileError(f"{Path(run) / PLAN}: {brief(error)}; plan anew with: layerlens allocate {run}") from None
    return plan, profile


def _check_decision(decision: Decision, shapes: Mapping[str, Mapping[str, int]]) -> None:
    where = f"the decision on {decision.unit}"
    if not math.isfinite(decision.utility):
        raise PlanError(f"{where} has a utility of {decision.utility}")
    if min(decision.size, *decision.sizes.values(), 0) < 0:
        raise PlanError(f"{where} has a size below 0")
    if decision.method == "none" and decision.parameters:
        raise PlanError(f"{where} is none, with {decision.parameters:,} trainable parameters")
    if any(amount < 0 for amount in attrs.astuple(decision.cost)):
        raise PlanError(f"{where} has a cost below 0")
    if unknown := sorted(name for name in decision.sizes if name not in shapes):
        raise PlanError(f"{where} gives {unknown[0]} a size, which is no place of the planned model")


def _spell(shape: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in shape.items())
