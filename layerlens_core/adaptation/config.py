"""The tuner's configuration: every module to adapt by its full name, with method, size and shape."""

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from attrs import asdict, frozen
from peft import LoraConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from layerlens_core.adaptation.target_patterns import exactly
from layerlens_core.errors import PlanError
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.plan import CORE, LORA_METHODS, Plan


class _PeftType(str):
    """A name that PEFT's closed enumeration of types lacks. It has a ``value``, which PEFT and transformers ask for."""

    value = property(str)


#: The type that adapter_config.json names for plans that plain PEFT cannot express.
PEFT_TYPE = _PeftType("LAYERLENS")
#: Version of the entries' format in a file.
VERSION = 1
#: Matches no name, and keeps PEFT from condensing a list of names.
NOTHING = "(?!)"
#: How plain PEFT can find a plan's modules: by patterns, by a list of full names, or not at all.
Plain = Literal["patterns", "names", "no"]


@frozen(kw_only=True)
class Entry:
    """What is attached to one module.

    method: as planned.
    size: as planned.
    shape: of the place, by which a wrong model is recognised: ``in_features`` and ``out_features`` of a linear map,
        ``features`` that are written to the residual stream, or the heads and widths of an attention.
    """

    method: str
    size: int
    shape: Mapping[str, int]


@dataclass
class LayerLensConfig(LoraConfig):  # type: ignore[misc]
    """A PEFT configuration with one entry a module, looked up by its exact name.

    entries: as plain dictionaries, since PEFT writes them as JSON.
    scale: α/r of every LoRA module.
    plain: how plain PEFT finds the modules, where all are LoRA and it can; the configuration is then saved as PEFT's
        own ``LORA`` and loads where LayerLens is not installed.
    one_rank: whether LoRA that is saved as PEFT's own has the largest rank everywhere, padded with zeros.
    listed: whether a list of full names tells the modules from all others, since PEFT matches names by their ends.
    subspace: digest of the file that the cores' frozen factors are from; empty where there are none.
    fingerprint: of the inventory of the model that they are for.
    version: of the entries' format.
    """

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale: float = 2.0
    plain: Plain = "no"
    one_rank: bool = True
    listed: bool = True
    subspace: str = ""
    fingerprint: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PEFT_TYPE
        self.target_modules = NOTHING
        self.target_parameters = sorted(
            name for name, entry in self.entries.items() if "experts" in entry["shape"]
        ) or None  # fmt: skip

    def entry_at(self, name: str) -> Entry | None:
        """The entry of the module with this full name."""
        entry = self.entries.get(name)
        return None if entry is None else Entry(**entry)

    def each(self) -> dict[str, Entry]:
        """All entries by name."""
        return {name: Entry(**entry) for name, entry in self.entries.items()}

    @property
    def padded_rank(self) -> int | None:
        """The rank to which tensors are padded when they are saved; None where they are saved as they are.

        PEFT's layout of stacked experts interleaves ranks and experts, and no server reads several ranks of them.
        """
        if not self.one_rank or self.plain == "no" or self.target_parameters:
            return None
        return max(entry.size for entry in self.each().values())

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write ``adapter_config.json``; as PEFT's own where it can express everything.

        Cores are written as the LoRA that they are once they are trained.
        """
        if self.plain == "no":
            written = copy(self)
            written.subspace = written.fingerprint = ""
            written.entries = {
                name: entry | {"method": "lora"} if entry["method"] == CORE else entry
                for name, entry in self.entries.items()
            }
            super(LayerLensConfig, written).save_pretrained(save_directory, **kwargs)
        else:
            self.as_lora(self.plain).save_pretrained(save_directory, **kwargs)

    def as_lora(self, plain: Plain) -> LoraConfig:
        """PEFT's own configuration of the same LoRA; all settings but the modules' names are as in this one.

        plain: how PEFT is to find the modules.
        """
        ranks = {name: self.padded_rank or entry["size"] for name, entry in self.entries.items()}
        # Servers read a list of names; SGLang refuses a pattern.
        listed = self.listed if self.padded_rank else plain == "names"
        config = plain_lora(ranks, scale=self.scale, parameters=self.target_parameters or (), listed=listed)
        told = ("r", "lora_alpha", "target_modules", "target_parameters", "rank_pattern", "alpha_pattern", "peft_type")
        for setting in fields(LoraConfig):
            if setting.name not in told:
                setattr(config, setting.name, getattr(self, setting.name))
        return config


PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = LayerLensConfig


def peft_config(plan: Plan, inventory: Inventory) -> LayerLensConfig:
    """The configuration of a plan, for `peft.get_peft_model` or a trainer's ``peft_config=``.

    plan: what to attach.
    inventory: of the planned model.

    Raises `PlanError` where a planned method cannot attach to its module.
    """
    return configure(
        {
            name: _entry(decision.method, size, name, inventory)
            for decision in plan.decisions
            for name, size in decision.sizes.items()
            if size > 0
        },
        scale=plan.scale,
        heads=[head.name for head in plan.heads],
    )


def configure(entries: Mapping[str, Entry], *, scale: float, heads: Collection[str] = ()) -> LayerLensConfig:
    """A configuration of these entries.

    entries: by module.
    scale: α/r of every LoRA module.
    heads: modules that train in full.
    """
    ranks = [entry.size for entry in entries.values() if entry.method in LORA_METHODS]
    largest = max(ranks, default=1)
    return LayerLensConfig(
        r=largest,
        lora_alpha=_integer(scale * largest),
        modules_to_save=list(heads) or None,
        entries={name: asdict(entry) for name, entry in entries.items()},
        scale=scale,
        plain="patterns" if len(ranks) == len(entries) else "no",
    )


def lora_config(plan: Plan) -> LoraConfig:
    """PEFT's own configuration of a plan of LoRA alone.

    plan: of LoRA alone.

    Raises `PlanError` where the plan holds other methods, and for models with stacked experts: PEFT rewrites patterns
    of some of them, so that only what is built tells what a configuration means.
    """
    if any("experts" in shape for shape in plan.shapes.values()):
        raise PlanError(
            f"{plan.architecture} has stacked experts, for which PEFT rewrites patterns of names; apply the plan, and "
            "save what was built"
        )
    others = sorted({d.method for d in plan.decisions} - (LORA_METHODS - {CORE}) - {"none"})
    if others:
        raise PlanError(f"the plan uses {', '.join(others)}, which PEFT's LoraConfig cannot express")
    ranks = {name: size for method in sorted(LORA_METHODS) for name, size in plan.sizes(method).items()}
    if not ranks:
        raise PlanError("the plan trains nothing: every layer is 'none'")
    return plain_lora(ranks, scale=plan.scale, heads=[head.name for head in plan.heads])


def plain_lora(
    ranks: Mapping[str, int],
    *,
    scale: float,
    heads: Collection[str] = (),
    parameters: Collection[str] = (),
    listed: bool = False,
) -> LoraConfig:
    """PEFT's own configuration of LoRA on exactly these modules, each at its rank.

    There is one anchored pattern for each rank. So patterns are disjoint and their order, which saving does not keep,
    cannot matter.

    ranks: by module.
    scale: α/r of every module.
    heads: modules that train in full.
    parameters: which of the names are stacked experts'.
    listed: name the modules instead of giving a pattern: PEFT 0.21 rewrites patterns of some mixtures of experts to the
        ends of names.
    """
    largest = max(ranks.values())
    by_rank: dict[int, list[str]] = {}
    for name, rank in ranks.items():
        by_rank.setdefault(rank, []).append(name)
    patterns = {exactly(names): rank for rank, names in sorted(by_rank.items()) if rank != largest}
    modules = ranks.keys() - set(parameters)
    return LoraConfig(
        r=largest,
        lora_alpha=_integer(scale * largest),
        target_modules=(sorted(modules) if listed else exactly(modules)) if modules else NOTHING,
        target_parameters=sorted(parameters) or None,
        rank_pattern=patterns,
        alpha_pattern={pattern: _integer(scale * rank) for pattern, rank in patterns.items()},
        modules_to_save=list(heads) or None,
    )


def _entry(method: str, size: int, name: str, inventory: Inventory) -> Entry:
    shape = inventory.shapes.get(name)
    if shape is None:
        raise PlanError(f"the plan puts {method} on {name}, which {inventory.architecture} does not have")
    return Entry(method=method, size=size, shape=shape)


def _integer(value: float) -> float:
    """The number as an integer where it is one, as other trainers write α."""
    return int(value) if float(value).is_integer() else value
