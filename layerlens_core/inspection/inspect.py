"""Read a model's structure: repeated layers, linear modules, attention blocks, what writes to the residual stream."""

import re
from collections.abc import Collection, Iterator
from dis import get_instructions
from inspect import unwrap

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from layerlens_core.errors import ModelError
from layerlens_core.inspection.unadaptable import obstacle
from layerlens_core.values.inventory import (
    AttentionModule,
    Experts,
    ExpertWeight,
    Head,
    Inventory,
    Layer,
    LinearModule,
    ModuleKind,
    ResidualWriter,
    Skipped,
)

#: How transformers names the projections that are added to the residual stream.
_RESIDUAL_WRITER = re.compile(
    r"(^|\.)(o_proj|out_proj|out_lin|c_proj|down_proj|wo|Wo|fc2|fc_out|lin2|ffn_output|output_dense|dense_4h_to_h|w2"
    r"|linear_out|post_proj|output_linear|pwconv2|ff\.layer_2|ffn\.linear_2|mlp\.(dense2|linear_fc2)|feed_forward\d?\.linear2"
    r"|\w*SelfAttention\.o|EncDecAttention\.o|(self_)?attn\.(o|output)|((self_)?attn|attention)\.proj(ection)?"
    r"|feed_forward\.output|(?<!bottleneck\.)((self_)?attention|(self_)?attn|output)\.dense)$"
)
_KEY_PROJECTION = re.compile(r"(^|\.)(k_proj|key|k_lin|k)$")
_VALUE_PROJECTION = re.compile(r"(^|\.)(v_proj|value|v_lin|v)$")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_HEAD_DIM = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "d_kv")
# Latent attention (DeepSeek) has keys and values of widths that differ; its head_dim is that of the rotated part.
_KEY_DIM = ("qk_head_dim", *_HEAD_DIM)
_VALUE_DIM = ("v_head_dim", *_HEAD_DIM)
_CLASSIFIER_NAMES = ("score", "classifier")
_ACTIVE_EXPERTS = ("num_experts_per_tok", "top_k", "num_experts_per_token", "moe_topk", "moe_k")
# Attention and feed-forward side by side: always in these families, in others as the configuration says.
_PARALLEL = frozenset({"codegen", "cohere", "cohere2", "gptj", "phi"})
_PARALLEL_FLAGS = ("use_parallel_residual", "parallel_attn")


def inspect(model: PreTrainedModel) -> Inventory:
    """The inventory of a model, which is not changed.

    Layers are the entries of the outermost ``ModuleList``s that hold linear modules, in the order of the
    forward pass as far as registration follows it. The language-model head and task heads are no targets.

    Raises `ModelError` where adapters are attached already, or where no layer holds a linear module.
    """
    check_bare(model)
    names = {name: module for name, module in model.named_modules() if name}
    layer_names = list(_layer_names(model))
    heads = _heads(model)
    skipped: list[Skipped] = []
    by_layer: dict[str, list[LinearModule]] = {name: [] for name in layer_names}
    layer_set = frozenset(layer_names)
    inside: dict[str, dict[str, nn.Module]] = {name: {name: names[name]} for name in layer_names}
    for name, module in names.items():
        if (within := _layer_of(name, layer_set)) is not None:
            inside[within][name] = module
    outside: list[LinearModule] = []
    experts: list[Experts] = []
    output = model.get_output_embeddings()
    output_spec: LinearModule | None = None
    for name, module in names.items():
        kind = linear_kind(module)
        if kind is None:
            if _is_stacked_experts(module):
                skipped.append(
                    Skipped(name=name, reason="experts stacked in one parameter, of the method lora-experts")
                )
                experts.extend(_experts(model, name, module, layer_names))
            continue
        if module is output:
            skipped.append(Skipped(name=name, reason="the language-model head"))
            output_spec = _linear(name, module, kind, None)
        elif any(name == head or name.startswith(f"{head}.") for head in heads):
            skipped.append(Skipped(name=name, reason="part of the task head, which trains in full"))
        elif (reason := _obstacle(name, names)) is not None:
            skipped.append(Skipped(name=name, reason=reason))
        else:
            layer = _layer_of(name, layer_set)
            spec = _linear(name, module, kind, layer)
            (outside if layer is None else by_layer[layer]).append(spec)
    layers = tuple(
        Layer(
            name=name,
            modules=tuple(modules),
            attentions=tuple(_attentions(model, name, inside[name])),
            blocks=tuple(_blocks(model, name, inside[name])),
            experts=tuple(_expert_weights(name, inside[name])),
        )
        for name, modules in by_layer.items()
        if modules
    )
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no repeated layer with a linear module (Linear or Conv1D), "
            "so there is nothing to adapt"
        )
    return Inventory(
        architecture=class_name(model),
        model_type=str(model.config.model_type),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=layers,
        outside=tuple(outside),
        heads=tuple(
            Head(name=name, parameters=sum(p.numel() for p in module.parameters())) for name, module in heads.items()
        ),
        skipped=tuple(skipped),
        output=output_spec,
        experts=tuple(experts),
        parallel=_is_parallel(model),
    )


def class_name(model: nn.Module) -> str:
    """The name of a model's own class, also where FSDP2 has put another in its place."""
    return next(kind for kind in type(model).__mro__ if not kind.__module__.startswith("torch.distributed")).__name__


def check_bare(model: nn.Module) -> None:
    """Raises `ModelError` where adapters are attached already."""
    if hasattr(model, "peft_config") or any(_is_of_peft(module) for module in model.modules()):
        raise ModelError(f"{type(model).__name__} already carries PEFT adapters; take the base model (model.unload())")


def linear_kind(module: nn.Module) -> ModuleKind | None:
    """How a module holds its linear map, or None where it is none."""
    if isinstance(module, nn.Linear):
        return "linear"
    return "conv1d" if isinstance(module, Conv1D) else None


def _linear(name: str, module: nn.Module, kind: ModuleKind, layer: str | None) -> LinearModule:
    if isinstance(module, nn.Linear):
        n_in, n_out = module.in_features, module.out_features
    else:
        n_in, n_out = (int(n) for n in module.weight.shape)  # type: ignore[union-attr]
    return LinearModule(
        name=name,
        layer=layer,
        kind=kind,
        in_features=n_in,
        out_features=n_out,
        writes_residual=layer is not None and _RESIDUAL_WRITER.search(name) is not None,
    )


def _layer_names(model: nn.Module) -> Iterator[str]:
    """Entries of the outermost module lists that hold linear modules."""
    lists: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(name.startswith(f"{outer}.") for outer in lists):
            continue
        entries = [f"{name}.{key}" for key, entry in module.named_children() if _has_linear(entry)]
        if entries:
            lists.append(name)
            yield from entries


def _layer_of(name: str, layers: Collection[str]) -> str | None:
    """The layer inside which a module lies."""
    while name := name.rpartition(".")[0]:
        if name in layers:
            return name
    return None


def _has_linear(module: nn.Module) -> bool:
    return any(linear_kind(child) is not None for child in module.modules())


def _is_of_peft(module: nn.Module) -> bool:
    """By name, so that inspecting does not import peft, which takes seconds."""
    return any(base.__module__.partition(".")[0] == "peft" for base in type(module).__mro__)


def _is_stacked_experts(module: nn.Module) -> bool:
    return (
        any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))
        and "expert" in type(module).__name__.lower()
    )


def _experts(model: PreTrainedModel, name: str, module: nn.Module, layers: list[str]) -> Iterator[Experts]:
    """What a stack of experts costs a token; nothing where the configuration does not say how many are active."""
    active = _first_int(model.config.get_text_config(), *_ACTIVE_EXPERTS)
    if active is not None:
        stacked = [parameter for parameter in module.parameters() if parameter.dim() == 3]
        yield Experts(
            name=name,
            layer=next((layer for layer in layers if name.startswith(f"{layer}.")), None),
            count=stacked[0].shape[0],
            active=active,
            parameters=sum(parameter.numel() for parameter in stacked),
        )


def _expert_weights(layer: str, names: dict[str, nn.Module]) -> Iterator[ExpertWeight]:
    """The stacked weights of a layer. Most are [experts, out, in]; a module says so where its are transposed."""
    for name, module in names.items():
        if name.startswith(f"{layer}.") and _is_stacked_experts(module):
            transposed = bool(getattr(module, "is_transposed", False))
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3:
                    count, first, second = (int(size) for size in parameter.shape)
                    n_in, n_out = (first, second) if transposed else (second, first)
                    yield ExpertWeight(name=f"{name}.{key}", experts=count, in_features=n_in, out_features=n_out)


def _obstacle(name: str, names: dict[str, nn.Module]) -> str | None:
    parent, _, key = name.rpartition(".")
    return obstacle(names[name], names[parent], key) if parent else None


def _blocks(model: PreTrainedModel, layer: str, names: dict[str, nn.Module]) -> Iterator[ResidualWriter]:
    """The modules of a layer that write to the residual stream as a whole.

    Mixtures of experts, stacked or in a list, and modules whose last linear map cannot be corrected by itself.
    """
    found: dict[str, int] = {}
    width = getattr(model.config.get_text_config(), "hidden_size", None)
    for name, module in names.items():
        if not name.startswith(f"{layer}."):
            continue
        inside = name.removeprefix(f"{layer}.").split(".")
        writes = linear_kind(module) is not None and _RESIDUAL_WRITER.search(name) is not None
        in_expert = next((at for at, part in enumerate(inside) if "expert" in part), None)
        if _is_stacked_experts(module):
            if width is not None:
                found[".".join(inside[: -1 if in_expert is None else in_expert])] = width
        elif writes and in_expert:
            found[".".join(inside[:in_expert])] = _linear(name, module, "linear", layer).out_features
        elif writes and _obstacle(name, names) is not None:
            found[".".join(inside[:-1])] = _linear(name, module, "linear", layer).out_features
    for block, features in found.items():
        if block:
            yield ResidualWriter(name=f"{layer}.{block}", features=features)


def _is_parallel(model: PreTrainedModel) -> bool:
    """Whether attention and feed-forward of a layer read the same input and are added to it together."""
    config = model.config.get_text_config()
    return config.model_type in _PARALLEL or any(getattr(config, flag, False) is True for flag in _PARALLEL_FLAGS)


def _heads(model: PreTrainedModel) -> dict[str, nn.Module]:
    """For a classifier: the modules beside the base model, which are new and train in full."""
    classifies = any("Classification" in base.__name__ for base in type(model).__mro__)
    if not classifies or model.get_output_embeddings() is not None:
        return {}
    body = model.base_model
    children = {name: child for name, child in model.named_children() if child is not body}
    heads = {name: child for name, child in children.items() if any(True for _ in child.parameters())}
    if body is model:
        heads = {name: child for name, child in heads.items() if name in _CLASSIFIER_NAMES}
    return heads


def _attentions(model: PreTrainedModel, layer: str, names: dict[str, nn.Module]) -> Iterator[AttentionModule]:
    """The innermost modules of a layer whose class is an attention and which hold linear modules."""
    inside = {
        name: module
        for name, module in names.items()
        if name.startswith(f"{layer}.") and "Attention" in type(module).__name__ and _has_linear(module)
    }
    for name, module in inside.items():
        if any(other.startswith(f"{name}.") for other in inside):
            continue
        # The module before the configuration: encoder and decoder can differ in their heads.
        config = getattr(module, "config", model.config)
        heads = _first_int(module, *_HEADS) or _first_int(config, *_HEADS)
        if heads is None:
            continue
        grouped = _first_int(config, "num_key_value_heads") or heads
        key = _projected_width(module, _KEY_PROJECTION)
        own = _first_int(module, *_KEY_DIM)
        if key and own and key % own == 0:
            # Whisper's configuration gives the encoder's heads for key-value heads, its decoder's too.
            grouped = key // own
        value = _projected_width(module, _VALUE_PROJECTION)
        key_dim = key // grouped if key else _first_int(module, *_KEY_DIM) or _first_int(config, *_KEY_DIM)
        value_dim = value // grouped if value else _first_int(module, *_VALUE_DIM) or _first_int(config, *_VALUE_DIM)
        if key_dim and value_dim:
            yield AttentionModule(
                name=name,
                layer=layer,
                query_heads=heads,
                key_value_heads=grouped,
                key_dim=key_dim,
                value_dim=value_dim,
                interface=calls_interface(module),
            )


def calls_interface(attention: nn.Module) -> bool:
    """Whether an attention looks its implementation up by name, in its own configuration, and for nothing else.

    Sparse attentions like DeepSeek-V3.2's choose their mask by that name too, and would go without under another one.
    """
    code = getattr(unwrap(type(attention).forward), "__code__", None)
    if code is None or "ALL_ATTENTION_FUNCTIONS" not in code.co_names or not hasattr(attention, "config"):
        return False
    reads: int = sum(instruction.argval == "_attn_implementation" for instruction in get_instructions(code))
    # GPT-2 asks for it again, for a path of its own that few models are configured to take.
    return reads == (2 if getattr(attention, "reorder_and_upcast_attn", None) is False else 1)


def _projected_width(attention: nn.Module, pattern: re.Pattern[str]) -> int | None:
    for name, module in attention.named_modules():
        if isinstance(module, nn.Linear) and pattern.search(name):
            return module.out_features
    return None


def _first_int(holder: object, *names: str) -> int | None:
    for name in names:
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, (bool, torch.Tensor)):
            return value
    return None
