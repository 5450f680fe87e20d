"""Build the model that a plan describes: a PeftModel in which each planned module has its method and size."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from layerlens_core.adaptation.configuration import (
    LORA_METHODS,
    Entry,
    LayerLensConfig,
    Plain,
    configure,
    peft_config,
)
from layerlens_core.adaptation.inspect import check_bare, inspect
from layerlens_core.adaptation.restoring import remember, restored_on_error
from layerlens_core.adaptation.side import SideModule
from layerlens_core.adaptation.tuner import side_module
from layerlens_core.errors import ModelError, PlanError, nearest
from layerlens_core.inventory import Inventory
from layerlens_core.plan import Plan
from layerlens_core.registry import default

#: How the A of LoRA starts: as PEFT draws it, or along the leading directions of the profiled gradient.
Init = Literal["random", "gradient"]


def apply(
    model: PreTrainedModel, plan: Plan, *, init: Init = "random", directions: str | Path | None = None
) -> PeftModel:
    """A PeftModel that trains exactly what the plan says, and at first computes what ``model`` does, to the last bit.

    The model is changed in place, as PEFT does: linear modules with LoRA are wrapped, adapters and prefixes stand
    beside the modules that they correct. Task heads of a classifier train in full beside the plan, as PEFT's
    ``modules_to_save``.

    init: ``"gradient"`` starts LoRA's A along the leading right singular vectors of the mean gradient, which
    ``directions`` (a run's directory, or its directions.safetensors) holds.

    Raises `ModelError` where the model is not the planned one, `PlanError` where the plan holds a method that cannot
    be applied, or is not consistent in itself, `PluginError` where nothing provides a method, and `FileError` for
    directions that are missing, damaged or of another profile; in all cases before anything is changed.
    """
    check_applicable(plan)
    inventory = inspect(model)
    # The fingerprint leaves heads out: a causal model and a classifier can have the same layers.
    if (inventory.fingerprint, inventory.heads) != (plan.fingerprint, plan.heads):
        raise ModelError(_difference(inventory, plan))
    config = peft_config(plan, inventory)
    if not config.entries:
        raise PlanError("the plan trains nothing: every layer is 'none'")
    for name, entry in _entries(config).items():
        _check_place(name, entry)
    if (cost := sum(map(_parameters, _entries(config).values()))) != plan.parameters:
        raise PlanError(f"the plan is for {plan.parameters:,} trainable parameters, but its sizes take {cost:,}")
    vectors = read_directions_of(plan, init, directions)
    if inventory.experts and config.plain != "no":
        config.plain = _plain_form(model, config)
    with restored_on_error(model):
        wrapped = attach(model, config)
        _verify(wrapped, config, plan)
        if vectors is not None:
            from layerlens_core.adaptation.initialisation import align

            align(wrapped, vectors)
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
            side_module(method)


def attach(model: PreTrainedModel, config: LayerLensConfig) -> PeftModel:
    """The model with everything that the configuration names, for a model that carries nothing yet.

    Raises `ModelError` where PEFT would take other modules for a head than those that are named.
    """
    _check_heads(model, config.modules_to_save or ())
    config.base_model_name_or_path = model.config._name_or_path or None
    with warnings.catch_warnings():
        # PEFT 0.21 reads an attribute that transformers 5.23 has renamed and still serves.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


@contextmanager
def temporary_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Collection[str] = ()
) -> Iterator[PeftModel]:
    """LoRA, and trainable copies of heads, that are gone afterwards, also after an exception.

    ranks: by linear module. PEFT's own ``unload`` puts the trained copy of a head in place of the original, leaves the
    weights frozen, and under gradient checkpointing hooks on the embeddings; here every module is again the very one
    that it was, and every weight frozen or not as before.
    """
    restore = remember(model)
    try:
        yield attach_lora(model, ranks, scale=scale, heads=heads)
    finally:
        restore()


def attach_lora(
    model: PreTrainedModel, ranks: Mapping[str, int], *, scale: int, heads: Collection[str] = ()
) -> PeftModel:
    """LoRA on exactly these linear modules, each at its rank, α/r = ``scale`` everywhere."""
    shapes = inspect(model).shapes
    entries = {name: Entry(method="lora", size=rank, shape=shapes[name]) for name, rank in ranks.items()}
    with restored_on_error(model):
        return attach(model, configure(entries, scale=scale, heads=heads))


def load(model: PreTrainedModel, directory: str | Path, *, trainable: bool = False) -> PeftModel:
    """An adapter that was saved, on its base model: `PeftModel.from_pretrained`, for which LayerLens is known to PEFT.

    trainable: to go on training it. Raises what `LayerLensModel` raises where the model is another one, and
    `ModelError` where it carries adapters already; in both cases nothing is changed.
    """
    check_bare(model)
    with restored_on_error(model):
        return PeftModel.from_pretrained(model, str(directory), is_trainable=trainable)


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """PEFT's LoRA layers by the name of the module, or of the stacked experts' parameter, that they adapt."""
    layers = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            bare, parameter = name.replace(".base_layer", ""), getattr(module, "parameter_name", None)
            layers[f"{bare}.{parameter}" if parameter else bare] = module
    return layers


def side_modules(model: PeftModel) -> dict[str, SideModule]:
    """Adapters, prefixes and their like by the name of the module beside which they stand."""
    return {
        name.removesuffix(f".{module.child}"): module
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, SideModule)
    }


def trainable_parameters(model: PeftModel) -> tuple[int, int]:
    """Trainable parameters of the methods, and of the task heads beside them."""
    adapters = heads = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if ".modules_to_save." in name:
                heads += parameter.numel()
            else:
                adapters += parameter.numel()
    return adapters, heads


def _plain_form(model: PreTrainedModel, config: LayerLensConfig) -> Plain:
    """How plain PEFT builds the same on this mixture of experts, found by letting it, on a copy without weights.

    PEFT 0.21 rewrites patterns, and the names of some experts' maps, to those of transformers 4.
    """
    planned = {name: (entry.size, config.scale) for name, entry in _entries(config).items()}
    forms: tuple[Plain, ...] = ("patterns", "names")
    for form in forms:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            try:
                made = lora_layers(get_peft_model(type(model)(deepcopy(model.config)), config.as_lora(form)))
            except ValueError:  # it refuses what it cannot rewrite
                continue
        if {name: (layer.r["default"], layer.scaling["default"]) for name, layer in made.items()} == planned:
            return form
    return "no"


def _entries(config: LayerLensConfig) -> dict[str, Entry]:
    return {name: Entry(**entry) for name, entry in config.entries.items()}


def _check_place(name: str, entry: Entry) -> None:
    places = (("in_features",),) if entry.method in LORA_METHODS else side_module(entry.method).places
    if not any(set(place) <= set(entry.shape) for place in places):
        raise PlanError(f"the plan puts {entry.method} on {name}, which is no place for it")


def _parameters(entry: Entry) -> int:
    if entry.method in LORA_METHODS:
        shape = entry.shape
        return entry.size * shape.get("experts", 1) * (shape["in_features"] + shape["out_features"])
    return side_module(entry.method).parameters_of(entry)


def read_directions_of(plan: Plan, init: Init, directions: str | Path | None) -> Mapping[str, torch.Tensor] | None:
    """What `apply` starts LoRA along: nothing, or the directions of the plan's profile. Raises as `apply` does."""
    if init == "random":
        return None
    if init != "gradient":
        raise PlanError(
            f"no init is named {init!r}; there are: random, gradient.{nearest(init, ('random', 'gradient'))}"
        )
    if plan.directions is None:
        raise PlanError("the plan's profile holds no directions to start along; profile again with --directions")
    if directions is None:
        raise PlanError("init='gradient' needs directions=…, the directory of the run that the plan was made in")
    from layerlens_core.profiling.direction_files import read_directions

    return read_directions(directions, fingerprint=plan.fingerprint, digest=plan.directions)


def _check_heads(model: PreTrainedModel, heads: Collection[str]) -> None:
    """PEFT finds heads by the end of their names, and adapts nothing inside what it finds."""
    heads = set(heads)
    for name, _ in model.named_modules(remove_duplicate=False):
        if name not in heads and (head := next((head for head in sorted(heads) if name.endswith(head)), None)):
            raise ModelError(
                f"PEFT would train {name} in full, because its name ends like that of the head {head}; rename one"
            )


def _verify(model: PeftModel, config: LayerLensConfig, plan: Plan) -> None:
    """Hold what was built to the plan: every module at its size and scale, and the exact number of parameters."""
    counts = {name: _trained(module) for name, module in (lora_layers(model) | side_modules(model)).items()}
    for name, entry in _entries(config).items():
        if counts.get(name) != _parameters(entry):
            raise PlanError(f"{name} trains {counts.get(name)} parameters, planned were {_parameters(entry)}")
    for name, layer in lora_layers(model).items():
        if layer.scaling["default"] != plan.scale:
            raise PlanError(f"PEFT scales {name} by {layer.scaling['default']:g}, planned was {plan.scale:g}")
    adapters, heads = trainable_parameters(model)
    if (adapters, heads) != (plan.parameters, plan.head_parameters):
        raise PlanError(
            f"PEFT made {adapters:,} trainable parameters and {heads:,} in heads; "
            f"planned were {plan.parameters:,} and {plan.head_parameters:,}"
        )


def _trained(layer: Any) -> int:
    """Trainable parameters of a layer of PEFT's, without those of another layer inside."""
    return sum(
        parameter.numel()
        for name in layer.adapter_layer_names
        for parameter in getattr(layer, name).parameters()
        if parameter.requires_grad
    )


def _difference(inventory: Inventory, plan: Plan) -> str:
    message = f"the plan is for another model: {plan.architecture}, but this is {inventory.architecture}"
    have, planned = inventory.shapes, plan.shapes
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
    if inventory.heads != plan.heads:
        have_heads, planned_heads = (
            ", ".join(f"{head.name} of {head.parameters:,} parameters" for head in heads) or "none"
            for heads in (inventory.heads, plan.heads)
        )
        return message + f"; its heads are {have_heads}, planned were {planned_heads}"
    if list(have) != list(planned):
        return message + "; its modules are the same, in another order"
    return message + "; its modules are the same, but it is of another kind"


def _spell(shape: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in shape.items())
