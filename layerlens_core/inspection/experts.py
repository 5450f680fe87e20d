"""Mixtures of experts: their stacked weights, and the blocks that write to the residual stream as a whole."""

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import PreTrainedModel

from layerlens_core.inspection.accessors import text_config
from layerlens_core.inspection.attention import first_int
from layerlens_core.inspection.linear import describe, linear_kind, why_unadaptable, writes_residual
from layerlens_core.inspection.packed import count, packed_tensors, saves_children
from layerlens_core.values.inventory import Experts, ExpertWeight, ResidualWriter

_ACTIVE_EXPERTS = ("num_experts_per_tok", "top_k", "num_experts_per_token", "moe_topk", "moe_k")


def is_stacked_experts(module: nn.Module) -> bool:
    """Whether a module holds the weights of all its experts stacked in one parameter."""
    return "expert" in type(module).__name__.lower() and (
        any(parameter.dim() == 3 for parameter in module.parameters(recurse=False)) or _unpacks(module)
    )


def packs_experts(module: nn.Module) -> bool:
    """Whether stacked experts lie packed."""
    return bool(packed_tensors(module)) or _unpacks(module)


def _unpacks(module: nn.Module) -> bool:
    """Whether a module unpacks parameters whenever they are read."""
    return is_parametrized(module) and any(packed_tensors(child) for child in module.parametrizations.values())  # type: ignore[operator]


def experts_in(model: PreTrainedModel, name: str, module: nn.Module, layers: list[str]) -> Iterator[Experts]:
    """What a stack of experts costs a token; nothing where the configuration does not say how many are active."""
    active = first_int(text_config(model), *_ACTIVE_EXPERTS)
    stacked = [parameter for parameter in module.parameters() if parameter.dim() == 3]
    packed = packs_experts(module)
    experts = stacked[0].shape[0] if stacked else first_int(module, "num_experts")
    if active is not None and experts is not None:
        yield Experts(
            name=name,
            layer=next((layer for layer in layers if name.startswith(f"{layer}.")), None),
            count=experts,
            active=active,
            parameters=count(module).packed if packed else sum(parameter.numel() for parameter in stacked),
        )


def expert_weights(layer: str, names: dict[str, nn.Module]) -> Iterator[ExpertWeight]:
    """The stacked weights of a layer. Most are [experts, out, in], transposed ones [experts, in, out]."""
    for name, module in names.items():
        if name.startswith(f"{layer}.") and is_stacked_experts(module) and not packs_experts(module):
            transposed = bool(getattr(module, "is_transposed", False))
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3:
                    count, first, second = (int(size) for size in parameter.shape)
                    n_in, n_out = (first, second) if transposed else (second, first)
                    yield ExpertWeight(name=f"{name}.{key}", experts=count, in_features=n_in, out_features=n_out)


def blocks(model: PreTrainedModel, layer: str, names: dict[str, nn.Module]) -> Iterator[ResidualWriter]:
    """The modules of a layer that write to the residual stream as a whole.

    Mixtures of experts, stacked or in a list, and modules whose last linear map cannot be corrected by itself, as
    nothing can be attached to it, or would not be saved.
    """
    found: dict[str, int] = {}
    width = getattr(text_config(model), "hidden_size", None)
    for name, module in names.items():
        if not name.startswith(f"{layer}."):
            continue
        inside = name.removeprefix(f"{layer}.").split(".")
        writes = linear_kind(module) is not None and writes_residual(name)
        in_expert = next((at for at, part in enumerate(inside) if "expert" in part), None)
        if is_stacked_experts(module):
            if width is not None:
                found[".".join(inside[: -1 if in_expert is None else in_expert])] = width
        elif writes and in_expert:
            found[".".join(inside[:in_expert])] = describe(name, module, "linear", layer).out_features
        elif writes and (why_unadaptable(name, names) is not None or not saves_children(module)):
            found[".".join(inside[:-1])] = describe(name, module, "linear", layer).out_features
    for block, features in found.items():
        if block:
            yield ResidualWriter(name=f"{layer}.{block}", features=features)
