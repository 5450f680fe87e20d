"""Linear maps of a model: what holds them, which shape they have, and whether they write to the residual stream."""

import re

from torch import nn
from transformers.pytorch_utils import Conv1D

from layerlens_core.inspection.packed import adapted_by_peft, packed_map
from layerlens_core.inspection.unadaptable import obstacle
from layerlens_core.values.inventory import LinearModule, ModuleKind

#: How transformers names the projections that are added to the residual stream.
_RESIDUAL_WRITER = re.compile(
    r"(^|\.)(o_proj|out_proj|out_lin|c_proj|down_proj|wo|Wo|fc2|fc_out|lin2|ffn_output|output_dense|dense_4h_to_h|w2"
    r"|linear_out|post_proj|output_linear|pwconv2|ff\.layer_2|ffn\.linear_2|mlp\.(dense2|linear_fc2)|feed_forward\d?\.linear2"
    r"|\w*SelfAttention\.o|EncDecAttention\.o|(self_)?attn\.(o|output)|((self_)?attn|attention)\.proj(ection)?"
    r"|feed_forward\.output|(?<!bottleneck\.)((self_)?attention|(self_)?attn|output)\.dense)$"
)


def linear_kind(module: nn.Module) -> ModuleKind | None:
    """How a module holds its linear map, or None where it is none that PEFT adapts."""
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    return "packed" if packed_map(module) is not None and adapted_by_peft(module) else None


def widths(module: nn.Module) -> tuple[int, int]:
    """Of the input and output of a linear map."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if (packed := packed_map(module)) is not None:
        return packed
    n_in, n_out = module.weight.shape  # type: ignore[misc]
    return int(n_in), int(n_out)


def writes_residual(name: str) -> bool:
    """Whether a linear module of this name writes to the residual stream."""
    return _RESIDUAL_WRITER.search(name) is not None


def describe(name: str, module: nn.Module, kind: ModuleKind, layer: str | None) -> LinearModule:
    """A linear map with its shape.

    layer: inside which it lies.
    """
    n_in, n_out = widths(module)
    return LinearModule(
        name=name,
        layer=layer,
        kind=kind,
        in_features=n_in,
        out_features=n_out,
        writes_residual=layer is not None and writes_residual(name),
    )


def has_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map, or holds one."""
    return any(linear_kind(child) is not None for child in module.modules())


def why_unadaptable(name: str, names: dict[str, nn.Module]) -> str | None:
    """Why nothing can be attached to a linear module, or None where something can.

    names: all modules.
    """
    parent, _, key = name.rpartition(".")
    return obstacle(names[name], names[parent], key) if parent else None
