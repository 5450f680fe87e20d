"""Attention modules of a layer: their heads and widths, and whether prefixes can be added."""

import re
from collections.abc import Iterator
from dis import get_instructions
from inspect import unwrap

import torch
from torch import nn
from transformers import PreTrainedModel

from layerlens_core.inspection.linear import has_linear, linear_kind, widths
from layerlens_core.values.inventory import AttentionModule

_KEY_PROJECTION = re.compile(r"(^|\.)(k_proj|key|k_lin|k)$")
_VALUE_PROJECTION = re.compile(r"(^|\.)(v_proj|value|v_lin|v)$")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_HEAD_DIM = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "d_kv")
# Latent attention (DeepSeek) has keys and values of widths that differ; its head_dim is that of the rotated part.
_KEY_DIM = ("qk_head_dim", *_HEAD_DIM)
_VALUE_DIM = ("v_head_dim", *_HEAD_DIM)


def attentions(model: PreTrainedModel, layer: str, names: dict[str, nn.Module]) -> Iterator[AttentionModule]:
    """The innermost modules of a layer whose class is an attention and which hold linear modules."""
    inside = {
        name: module
        for name, module in names.items()
        if name.startswith(f"{layer}.") and "Attention" in type(module).__name__ and has_linear(module)
    }
    for name, module in inside.items():
        if any(other.startswith(f"{name}.") for other in inside):
            continue
        # The module before the configuration: encoder and decoder can differ in their heads.
        config = getattr(module, "config", model.config)
        heads = first_int(module, *_HEADS) or first_int(config, *_HEADS)
        if heads is None:
            continue
        grouped = first_int(config, "num_key_value_heads") or heads
        key = _projected_width(module, _KEY_PROJECTION)
        own = first_int(module, *_KEY_DIM)
        if key and own and key % own == 0:
            # Whisper's configuration gives the encoder's heads for key-value heads, its decoder's too.
            grouped = key // own
        value = _projected_width(module, _VALUE_PROJECTION)
        key_dim = key // grouped if key else first_int(module, *_KEY_DIM) or first_int(config, *_KEY_DIM)
        value_dim = value // grouped if value else first_int(module, *_VALUE_DIM) or first_int(config, *_VALUE_DIM)
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

    Sparse attentions like DeepSeek-V3.2's choose their mask by that name too, and would lose it under another name.

    attention: a module of the model.
    """
    code = getattr(unwrap(type(attention).forward), "__code__", None)
    if code is None or "ALL_ATTENTION_FUNCTIONS" not in code.co_names or not hasattr(attention, "config"):
        return False
    reads: int = sum(instruction.argval == "_attn_implementation" for instruction in get_instructions(code))
    # GPT-2 asks for it again, for a path of its own that few models are configured to take.
    return reads == (2 if getattr(attention, "reorder_and_upcast_attn", None) is False else 1)


def _projected_width(attention: nn.Module, pattern: re.Pattern[str]) -> int | None:
    for name, module in attention.named_modules():
        if linear_kind(module) in ("linear", "packed") and pattern.search(name):
            return widths(module)[1]
    return None


def first_int(holder: object, *names: str) -> int | None:
    """The first of these attributes that is a number above 0, or None."""
    for name in names:
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, (bool, torch.Tensor)):
            return value
    return None
