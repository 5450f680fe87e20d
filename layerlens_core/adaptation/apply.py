"""Build the model that a plan describes: a PeftModel in which each planned module has its method and size."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from layerlens_core.adaptation.attach import attach
from layerlens_core.adaptation.attached import adapted, lora_layers, trainable_parameters
from layerlens_core.adaptation.config import Entry, LayerLensConfig, Plain, peft_config
from layerlens_core.adaptation.cores.subspaces import place_cores, read_subspace_of
from layerlens_core.adaptation.provided import provided_form, provided_side
from layerlens_core.adaptation.side_module import SideModule
from layerlens_core.adaptation.snapshot import restored_on_error
from layerlens_core.errors import ModelError, PlanError, nearest
from layerlens_core.inspection.inspect import check_bare, inspect
from layerlens_core.plugin.registry import default
from layerlens_core.values.plan import CORE, LORA_METHODS, Plan

#: How the A of LoRA starts: as PEFT draws it, along the leading directions of the profiled gradient, or scaled by rank.
Init = Literal["random", "gradient", "by-rank"]


def apply(
    model: PreTrainedModel,
    plan: Plan,
    *,
    init: Init = "random",
    directions: str | Path | None = None,
    one_rank: bool = True,
) -> PeftModel:
    """A PeftModel that trains exactly what the plan says, and at first computes what ``model`` does, to the last bit.

    The model is changed in place, as PEFT does: linear modules with LoRA are wrapped, adapters and prefixes stand
    beside the modules that they correct. Task heads of a classifier train in full beside the plan, as PEFT's
    ``modules_to_save``.

    model: the planned one, without adapters.
    plan: what to attach.
    init: ``"gradient"`` starts LoRA's A along the leading right singular vectors of the mean gradient, ``"random"`` as
        PEFT draws it, ``"by-rank"`` too, but times (mean rank / rank)^¼.
    directions: where these vectors, and the subspaces that cores lie in, are: a run's directory, or a file of it.
    one_rank: how ``save_pretrained`` writes a plan of LoRA alone: every tensor at the largest rank, padded with zeros,
        as servers want it, or each at its own. What trains is planned either way.

    Raises `ModelError` where the model is not the planned one, `PlanError` where the plan holds a method that cannot be
    applied, or is not consistent in itself, `PluginError` where nothing provides a method, and `FileError` for
    directions that are missing, damaged or of another profile; in all cases before anything is changed.
    """
    if not isinstance(plan, Plan):
        raise PlanError(f"apply takes a Plan, not {plan!r}; ll.Plan.load(run) reads one")
    check_bare(model)
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"apply takes a model of transformers as it was loaded, not {type(model).__name__}; "
            "compile or wrap it afterwards"
        )
    plan.check()
    check_applicable(plan)
    inventory = inspect(model)
    if (difference := plan.difference(inventory)) is not None:
        raise ModelError(difference)
    config = peft_config(plan, inventory)
    entries = config.each()
    if not entries:
        raise PlanError("the plan trains nothing: every layer is 'none'")
    for name, entry in entries.items():
        _check_place(name, entry)
    planned = {name: _parameters(name, entry) for name, entry in entries.items()}
    if (cost := sum(planned.values())) != plan.parameters:
        raise PlanError(f"the plan is for {plan.parameters:,} trainable parameters, but its sizes take {cost:,}")
    vectors = read_directions_of(plan, init, directions)
    subspace = read_subspace_of(plan, directions)
    config.one_rank = one_rank
    if inventory.experts and config.plain != "no":
        _choose_form(model, config)
    with restored_on_error(model):
        wrapped = attach(model, config)
        _verify(wrapped, planned, plan)
        if subspace is not None:
            place_cores(wrapped, subspace, digest=plan.subspace or "", fingerprint=plan.fingerprint)
        if vectors is not None:
            from layerlens_core.adaptation.initialisation import align

            align(wrapped, vectors)
        if init == "by-rank":
            from layerlens_core.adaptation.initialisation import scale_by_rank

            scale_by_rank(wrapped)
    return wrapped


def check_applicable(plan: Plan) -> None:
    """Raises `PlanError` for a method that cannot be applied, and `PluginError` for one that nothing provides."""
    for method in sorted({decision.method for decision in plan.decisions}):
        provider = default().get("method", method)
        if not provider.applicable:
            raise PlanError(
                f"the plan uses {method}, which cannot be applied; allocate again with --methods that leave it out"
            )
        if method not in LORA_METHODS | {"none"}:
            provided_side(method)


def _choose_form(model: PreTrainedModel, config: LayerLensConfig) -> None:
    """Set how plain PEFT builds the same on this mixture of experts, found by trying, on a copy without weights.

    PEFT 0.21 rewrites patterns, and the names of some experts' maps, to those of transformers 4.
    """
    forms: tuple[Plain, ...] = ("patterns", "names")
    wanted = (config.one_rank, False) if config.padded_rank else (config.one_rank,)
    for config.one_rank in wanted:
        for config.plain in forms:
            if _builds(model, config):
                return
    config.plain = "no"


def _builds(model: PreTrainedModel, config: LayerLensConfig) -> bool:
    """Whether plain PEFT builds what a configuration saves."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            made = lora_layers(get_peft_model(type(model)(deepcopy(model.config)), config.as_lora(config.plain)))
        except ValueError:  # PEFT refuses what it cannot rewrite
            return False
    planned = {name: (config.padded_rank or entry.size, config.scale) for name, entry in config.each().items()}
    return {name: (layer.r["default"], layer.scaling["default"]) for name, layer in made.items()} == planned


def _check_place(name: str, entry: Entry) -> None:
    places = (("in_features",),) if entry.method in LORA_METHODS else provided_side(entry.method).places
    if not any(set(place) <= set(entry.shape) for place in places):
        raise PlanError(f"the plan puts {entry.method} on {name}, which is no place for it")


def _parameters(name: str, entry: Entry) -> int:
    if entry.method == CORE:
        return provided_form(CORE).parameters_of(entry)
    if entry.method in LORA_METHODS:
        shape = entry.shape
        return entry.size * shape.get("experts", 1) * (shape["in_features"] + shape["out_features"])
    return provided_side(entry.method).parameters_of(name, entry)


def read_directions_of(plan: Plan, init: Init, directions: str | Path | None) -> Mapping[str, torch.Tensor] | None:
    """What `apply` starts LoRA along: nothing, or the directions of the plan's profile. Raises as `apply` does."""
    if init not in (known := get_args(Init)):
        raise PlanError(f"no init is named {init!r}; there are: {', '.join(known)}.{nearest(init, known)}")
    if init != "gradient":
        return None
    if plan.directions is None:
        raise PlanError("the plan's profile holds no directions to start along; profile again with --directions")
    if directions is None:
        raise PlanError("init='gradient' needs directions=…, the directory of the run that the plan was made in")
    from layerlens_core.files.directions import read_directions

    found = read_directions(directions, fingerprint=plan.fingerprint, digest=plan.directions)
    return {name: torch.from_numpy(pair.right.copy()) for name, pair in found.items()}


def _verify(model: PeftModel, planned: Mapping[str, int], plan: Plan) -> None:
    """Compare what was built with the plan: every module's size and scale, and the exact number of parameters.

    model: what was built.
    planned: trainable parameters by module.
    plan: what should have been built.
    """
    layers = dict(adapted(model.get_base_model()))
    for name, count in planned.items():
        trained = _trained(layers[name]) if name in layers else None
        if trained != count:
            raise PlanError(f"{name} trains {trained} parameters, planned were {count}")
    for name, layer in layers.items():
        if not isinstance(layer, SideModule) and layer.scaling["default"] != plan.scale:
            raise PlanError(f"PEFT scales {name} by {layer.scaling['default']:g}, planned was {plan.scale:g}")
    adapters, heads = trainable_parameters(model)
    if (adapters, heads) != (plan.parameters, plan.head_parameters):
        raise PlanError(
            f"PEFT made {adapters:,} trainable parameters and {heads:,} in heads; "
            f"planned were {plan.parameters:,} and {plan.head_parameters:,}"
        )


def _trained(layer: Any) -> int:
    """Trainable parameters of a PEFT layer, without those of another layer inside it."""
    return sum(
        parameter.numel()
        for name in layer.adapter_layer_names
        for parameter in getattr(layer, name).parameters()
        if parameter.requires_grad
    )
