"""Read a model's structure: repeated layers, linear modules, attention blocks, what writes to the residual stream."""

from collections.abc import Collection, Iterator, Mapping

from attrs import define, field
from torch import nn
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.inspection.accessors import output_embeddings, text_config
from layerlens_core.inspection.attention import attentions
from layerlens_core.inspection.experts import blocks, expert_weights, experts_in, is_stacked_experts, packs_experts
from layerlens_core.inspection.linear import describe, has_linear, linear_kind, why_unadaptable
from layerlens_core.inspection.packed import count, packed_map
from layerlens_core.values.inventory import Experts, Head, Inventory, Layer, LinearModule, Skipped

_CLASSIFIER_NAMES = ("score", "classifier")
# Attention and feed-forward side by side: always in these families, in others as the configuration says.
_PARALLEL = frozenset({"codegen", "cohere", "cohere2", "gptj", "phi"})
_PARALLEL_FLAGS = ("use_parallel_residual", "parallel_attn")


def inspect(model: PreTrainedModel) -> Inventory:
    """The inventory of a model, which is not changed.

    Layers are the entries of the outermost ``ModuleList``s that hold linear modules, in the order of the
    forward pass as far as registration follows it. The language-model head and task heads are no targets.

    model: of transformers, without adapters.

    Raises `ModelError` where adapters are attached already, or where no layer holds a linear module.
    """
    check_bare(model)
    names = {name: module for name, module in model.named_modules() if name}
    heads = _heads(model)
    found = _sorted_out(model, names, heads)
    inside = _by_layer(names, found.layers)
    layers = tuple(
        Layer(
            name=name,
            modules=tuple(modules),
            attentions=tuple(attentions(model, name, inside[name])),
            blocks=tuple(blocks(model, name, inside[name])),
            experts=tuple(expert_weights(name, inside[name])),
        )
        for name, modules in found.layers.items()
        if modules
    )
    if not layers:
        raise ModelError(_nothing_to_adapt(model, names))
    total = count(model)
    return Inventory(
        architecture=class_name(model),
        model_type=str(model.config.model_type),
        parameters=total.parameters,
        layers=layers,
        outside=tuple(found.outside),
        heads=tuple(Head(name=name, parameters=count(module).parameters) for name, module in heads.items()),
        skipped=tuple(found.skipped),
        output=found.output,
        experts=tuple(found.experts),
        parallel=_is_parallel(model),
        packed=total.packed,
        packed_bytes=total.packed_bytes,
        state_bytes=total.state_bytes,
    )


def _nothing_to_adapt(model: nn.Module, names: Mapping[str, nn.Module]) -> str:
    packed = next((type(module).__name__ for module in names.values() if packed_map(module) is not None), None)
    holds = f"; those of {packed} are packed in a way that PEFT does not adapt" if packed else ""
    return (
        f"{type(model).__name__} has no repeated layer with a linear module (Linear or Conv1D), "
        f"so there is nothing to adapt{holds}"
    )


@define
class _Found:
    """Where every linear map of a model belongs; as in `Inventory`.

    layers: the linear modules of each.
    """

    layers: dict[str, list[LinearModule]]
    outside: list[LinearModule] = field(factory=list)
    skipped: list[Skipped] = field(factory=list)
    experts: list[Experts] = field(factory=list)
    output: LinearModule | None = None


def _sorted_out(model: PreTrainedModel, names: dict[str, nn.Module], heads: Collection[str]) -> _Found:
    """Every linear map in a layer, outside of the layers, or skipped with the reason.

    names: all modules.
    """
    found = _Found({name: [] for name in _layer_names(model)})
    output = output_embeddings(model)
    for name, module in names.items():
        kind = linear_kind(module)
        if kind is None:
            if is_stacked_experts(module):
                packed = "packed (quantised), which no method adapts"
                reason = packed if packs_experts(module) else "of the method lora-experts"
                found.skipped.append(Skipped(name=name, reason=f"experts stacked in one parameter, {reason}"))
                found.experts.extend(experts_in(model, name, module, list(found.layers)))
            elif packed_map(module) is not None:
                reason = f"{type(module).__name__} packs its weight in a way that PEFT does not adapt"
                found.skipped.append(Skipped(name=name, reason=reason))
        elif module is output:
            found.skipped.append(Skipped(name=name, reason="the language-model head"))
            found.output = describe(name, module, kind, None)
        elif any(name == head or name.startswith(f"{head}.") for head in heads):
            found.skipped.append(Skipped(name=name, reason="part of the task head, which trains in full"))
        elif (why := why_unadaptable(name, names)) is not None:
            found.skipped.append(Skipped(name=name, reason=why))
        else:
            layer = _layer_of(name, found.layers)
            described = describe(name, module, kind, layer)
            (found.outside if layer is None else found.layers[layer]).append(described)
    return found


def _by_layer(names: Mapping[str, nn.Module], layers: Collection[str]) -> dict[str, dict[str, nn.Module]]:
    """The modules of every layer by name, the layer itself among them."""
    inside: dict[str, dict[str, nn.Module]] = {name: {name: names[name]} for name in layers}
    for name, module in names.items():
        if (layer := _layer_of(name, layers)) is not None:
            inside[layer][name] = module
    return inside


def class_name(model: nn.Module) -> str:
    """The name of a model's own class, also where FSDP2 has put a class of its own in its place."""
    return next(kind for kind in type(model).__mro__ if not kind.__module__.startswith("torch.distributed")).__name__


def check_bare(model: object) -> None:
    """Raises `ModelError` for what is no model of transformers, and where adapters are attached already."""
    if not isinstance(model, nn.Module):
        shown = repr(model)[:60] if isinstance(model, str) else f"a {type(model).__name__}"
        raise ModelError(
            f"a model of transformers is needed, not {shown}; load it first, for instance with "
            "AutoModelForCausalLM.from_pretrained"
        )
    if hasattr(model, "peft_config") or any(_is_of_peft(module) for module in model.modules()):
        raise ModelError(f"{type(model).__name__} already carries PEFT adapters; {_way_to_base(model)}")
    if not hasattr(model, "get_output_embeddings"):
        raise ModelError(
            f"a model of transformers as it was loaded is needed, not {type(model).__name__}; wrap it afterwards"
        )


def _way_to_base(model: nn.Module) -> str:
    """What to do about adapters, by who attached them."""
    if not _is_of_peft(model):
        # Of `add_adapter`, or inside of a PeftModel, which alone can take them off.
        return "take the base model, by its PeftModel's unload() or loaded anew"
    if "unload" in dir(getattr(model, "base_model", model)):
        return "take the base model: model.unload(), or model.merge_and_unload() to go on from what was trained"
    return "take the base model, loaded anew"


def _layer_names(model: nn.Module) -> Iterator[str]:
    """Entries of the outermost module lists that hold linear modules."""
    lists: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{outer}.") for outer in lists):
            continue
        entries = [f"{name}.{key}" for key, entry in module.named_children() if has_linear(entry)]
        if entries:
            lists.append(name)
            yield from entries


def _layer_of(name: str, layers: Collection[str]) -> str | None:
    """The layer inside which a module lies."""
    while name := name.rpartition(".")[0]:
        if name in layers:
            return name
    return None


def _is_of_peft(module: nn.Module) -> bool:
    """Decided by the name of its class's module, since importing peft to ask takes seconds."""
    return any(base.__module__.partition(".")[0] == "peft" for base in type(module).__mro__)


def _is_parallel(model: PreTrainedModel) -> bool:
    """Whether attention and feed-forward of a layer read the same input, and their sum is added to it."""
    config = text_config(model)
    return config.model_type in _PARALLEL or any(getattr(config, flag, False) is True for flag in _PARALLEL_FLAGS)


def _heads(model: PreTrainedModel) -> dict[str, nn.Module]:
    """For a classifier: the modules beside the base model, which are new and train in full."""
    classifies = any("Classification" in base.__name__ for base in type(model).__mro__)
    if not classifies or output_embeddings(model) is not None:
        return {}
    body = model.base_model
    children = {name: child for name, child in model.named_children() if child is not body}
    heads = {name: child for name, child in children.items() if any(True for _ in child.parameters())}
    if body is model:
        heads = {name: child for name, child in heads.items() if name in _CLASSIFIER_NAMES}
    return heads
