"""The gated prefix: what attention over n trained positions gives, added to an attention's own output.

For query head h with key-value head k(h) it is g_h · softmax(scaling · q P_kᵀ) P_v. A gate g of zero leaves the
model as it was (Zhang et al. 2023, arXiv 2303.16199), and since the model's own keys are not touched, neither masks
nor caches nor positions know of the prefix. Li & Liang (2021, arXiv 2101.00190) concatenate theirs to the keys instead,
under one softmax, which changes the model from the start.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from layerlens_core.plugin import Entry, ModelError, SideModule, calls_interface

#: The name in transformers' attention interface; only attentions with a prefix are configured to use it.
IMPLEMENTATION = "layerlens_prefix"
#: Implementations that never ask for their own name; for them the configuration is not exchanged while the model runs.
_INDIFFERENT = ("eager", "sdpa", "flex_attention")


class _Prefix(nn.Module):
    """One adapter's prefix: keys [H_kv, n, d_k], values [H_kv, n, d_v] and gates [H_q]."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        shape = entry.shape
        groups = (shape["key_value_heads"], entry.size)
        self.key = nn.Parameter(torch.randn(*groups, shape["key_dim"]))
        self.value = nn.Parameter(torch.randn(*groups, shape["value_dim"]))
        self.gate = nn.Parameter(torch.zeros(shape["query_heads"]))


class GatedPrefix(SideModule):
    """Stands beside an attention module, whose configuration it replaces by a copy that names our implementation.

    Keys and values are drawn from N(0, 1), gates are zero at first.
    """

    child = "layerlens_prefix"
    places = (("query_heads", "key_value_heads", "key_dim", "value_dim"),)
    adapter_layer_names = ("lora_prefix",)

    def __init__(self, host: nn.Module, entry: Entry) -> None:
        super().__init__(host, entry)
        self.lora_prefix = nn.ModuleDict()
        self.groups = entry.shape["query_heads"] // entry.shape["key_value_heads"]
        self.config: Any = host.config
        # Looked up now, as torch.compile cannot do it while it traces.
        names = unwrap(type(host).forward).__globals__
        self._functions = names["ALL_ATTENTION_FUNCTIONS"]
        self._eager = names.get("eager_attention_forward")

    @classmethod
    def check(cls, host: nn.Module, name: str, entry: Entry) -> None:
        if not calls_interface(host):
            raise ModelError(
                f"{type(host).__name__} ({name}) does not leave its attention to transformers' attention interface, "
                "through which prefixes are added; allocate again with --methods that leave out prefix"
            )

    def add(self, adapter: str, entry: Entry) -> None:
        self.lora_prefix[adapter] = self.beside_host(_Prefix(entry))

    def connect(self) -> None:
        config: Any = copy(self.config)
        config._attn_implementation_internal = IMPLEMENTATION
        self.host.config = config

    def disconnect(self) -> None:
        self.host.config = self.config

    @classmethod
    def parameters_of(cls, entry: Entry) -> int:
        shape = entry.shape
        return entry.size * shape["key_value_heads"] * (shape["key_dim"] + shape["value_dim"]) + shape["query_heads"]

    @property
    def implementation(self) -> Callable[..., Any]:
        """The model's own attention, as it is configured now."""
        function: Callable[..., Any] = self._functions.get_interface(self.config._attn_implementation, self._eager)
        return function

    @contextmanager
    def own_configuration(self, module: Any) -> Iterator[None]:
        """Inside, the module has the model's own configuration, in which flash attention looks its kernel up."""
        if self.config._attn_implementation in _INDIFFERENT:
            yield
            return
        replaced, module.config = module.config, self.config
        try:
            yield
        finally:
            module.config = replaced

    def forward(self, query: Tensor, output: Tensor, scaling: float | None) -> Tensor:
        """The attention's output with the prefix's added.

        query: [B, H_q, T, d_k].
        output: of the attention [B, T, H_q, d_v].
        scaling: of the products of queries and keys.
        """
        dtype = output.dtype
        for adapter in self.running():
            prefix = self.lora_prefix[adapter]
            assert isinstance(prefix, _Prefix)
            key, value = prefix.key, prefix.value
            self._check_shapes(query, output, key, value)
            # [B, H_kv, groups, T, d_k], as the heads of a group lie side by side.
            batch, _, length, width = query.shape
            grouped = query.to(key.dtype).reshape(batch, key.shape[0], self.groups, length, width)
            factor = key.shape[-1] ** -0.5 if scaling is None else scaling
            weights = torch.softmax(torch.einsum("bkgtd,knd->bkgtn", grouped, key) * factor, dim=-1)
            attended = torch.einsum("bkgtn,knv->btkgv", weights, value).flatten(2, 3)
            # Some kernels want values as wide as keys and give outputs of that width.
            attended = pad(attended, (0, output.shape[-1] - attended.shape[-1]))
            output = output + prefix.gate[:, None] * attended
        return output.to(dtype)

    def _check_shapes(self, query: Tensor, output: Tensor, key: Tensor, value: Tensor) -> None:
        """Raises `ModelError` where the attention computes with other heads or widths than were planned."""
        heads = key.shape[0] * self.groups
        found = (query.shape[1], query.shape[-1], output.shape[-2])
        if found != (heads, key.shape[-1], heads) or output.shape[-1] < value.shape[-1]:
            raise ModelError(
                f"the prefix at {self.name} was planned for {heads} query heads of {key.shape[-1]} and values of "
                f"{value.shape[-1]}, but that attention has queries {list(query.shape)} and gives "
                f"{list(output.shape)}; allocate again with --methods that leave out prefix"
            )


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """The attention interface's function: the model's own attention, with the prefix's output added."""
    side = module._modules[GatedPrefix.child]
    assert isinstance(side, GatedPrefix)
    with side.own_configuration(module):
        output, weights = side.implementation(module, query, key, value, attention_mask, **options)
    return side(query, output, options.get("scaling")), weights


AttentionInterface.register(IMPLEMENTATION, _attend)
