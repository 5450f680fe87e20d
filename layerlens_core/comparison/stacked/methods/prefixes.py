"""Gated prefixes of K arms beside one attention: what it gives over each arm's own positions, added to the arm's rows.

For query head h with key-value head k(h) that is g_h · softmax(scaling · q P_kᵀ) P_v, as the built-in method `prefix`
computes it. Padded positions have no weight. Where an arm has no prefix, its gates and values are zero; so it gets no
gradient, whatever the weights are.
"""

from collections.abc import Mapping

import torch
from attrs import field, frozen
from torch import Tensor

from layerlens_core.comparison.stacked.methods.noise import normal
from layerlens_core.comparison.stacked.methods.place import Place
from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.errors import ModelError

_KEY, _VALUE, _GATE = "lora_prefix.default.key", "lora_prefix.default.value", "lora_prefix.default.gate"


@frozen(eq=False, kw_only=True)
class Prefixes(Place):
    """Keys [K, H_kv, N, d_k], values [K, H_kv, N, d_v] and gates [K, H_q]; functions of the queries.

    masks: what is added to the products of queries and keys, far below zero where a position is padding [K, N].
    """

    masks: Tensor = field(init=False)

    @masks.default
    def _masks(self) -> Tensor:
        padding = torch.arange(max(self.sizes)) >= torch.tensor(self.sizes)[:, None]
        masks = torch.zeros(padding.shape, dtype=self.dtype).masked_fill_(padding, torch.finfo(self.dtype).min)
        return masks.to(self.having.device)

    @staticmethod
    def shapes(size: int, shape: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
        heads = shape["key_value_heads"]
        return {
            _KEY: (heads, size, shape["key_dim"]),
            _VALUE: (heads, size, shape["value_dim"]),
            _GATE: (shape["query_heads"],),
        }

    @staticmethod
    def start(name: str, size: int, shape: Mapping[str, int], seed: int) -> Mapping[str, Tensor]:
        heads = shape["key_value_heads"]
        widths = {_KEY: shape["key_dim"], _VALUE: shape["value_dim"]}
        return {
            part: normal(f"{name} {part}", size, heads * width, seed).view(size, heads, width).transpose(0, 1)
            for part, width in widths.items()
        }

    @classmethod
    def refusal(cls, testbed: Testbed, name: str) -> str | None:
        """Queries and outputs begin with the samples, where all that the attention's linear modules see does."""
        within = [module.name for module in testbed.inventory.linears() if module.name.startswith(f"{name}.")]
        for module in within:
            if (reason := super().refusal(testbed, module)) is not None:
                return reason
            if any(layout.dim or layout.fold != "whole" for layout in testbed.established.layouts(module).values()):
                return f"{module}, which is part of an attention, does not keep its samples along its first dimension"
        return None if within else f"{name}: where it keeps its samples is not known"

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output [B, T, H_q, ≥ d_v] with every arm's part, from the queries, scaled [B, H_q, T, d_k]."""
        self._check(inputs, output)
        size = self.size
        if size == 0:
            return output.clone()
        _, attended = self._attended(self._by_arm(inputs.to(self.dtype)), size)
        added = self._back(attended, inputs).transpose(1, 2) * self._gates()
        # Some kernels want values as wide as keys and give outputs of that width.
        added = torch.nn.functional.pad(added, (0, output.shape[-1] - added.shape[-1]))
        return (output + added).to(output.dtype)

    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add to the gradients, and give the derivative by the queries, scaled."""
        size, arms, shape, gradients = self.size, self.running.arms, self.shape, self.gradients
        if size == 0:
            return None
        queries = self._by_arm(inputs.to(self.dtype))
        weights, attended = self._attended(queries, size)
        g = gradient[..., : shape["value_dim"]].to(self.dtype)
        of_gates = (g * self._back(attended, inputs).transpose(1, 2)).sum(dim=-1)  # [B, T, H_q]
        gradients[_GATE][arms] += of_gates.view(self.running.count, -1, shape["query_heads"]).sum(dim=1)
        of_attended = self._by_arm((g * self._gates()).transpose(1, 2))
        keys, values = self._positions(_KEY, size), self._positions(_VALUE, size)
        of_weights = torch.bmm(of_attended, values.mT)
        of_products = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, self.dtype)
        for part, found in {_VALUE: weights.mT @ of_attended, _KEY: of_products.mT @ queries}.items():
            gradients[part][arms, :, :size] += found.view(self.running.count, -1, size, found.shape[-1])
        of_queries = torch.bmm(of_products, keys)
        return self._back(of_queries, inputs).to(inputs.dtype)

    def _attended(self, queries: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Weights of the positions, and what they give, of grouped queries: [arms · H_kv, rows, N] and [… , d_v]."""
        masks = self.masks[self.running.arms, :size].repeat_interleave(self.shape["key_value_heads"], dim=0)
        products = torch.baddbmm(masks[:, None], queries, self._positions(_KEY, size).mT)
        weights = torch.softmax(products, dim=-1)
        return weights, torch.bmm(weights, self._positions(_VALUE, size))

    def _positions(self, part: str, size: int) -> Tensor:
        """Keys or values of the running arms as [arms · H_kv, N, d]."""
        return self.tensors[part][self.running.arms, :, :size].flatten(0, 1)

    def _gates(self) -> Tensor:
        """The gate of every sample's arm [B, 1, H_q, 1]."""
        return self.tensors[_GATE][self.running.arms].repeat_interleave(self.running.samples, dim=0)[:, None, :, None]

    def _by_arm(self, tensor: Tensor) -> Tensor:
        """[B, H_q, T, d] as [arms · H_kv, rows, d]: the heads of a group lie side by side."""
        arms, samples, heads = self.running.count, self.running.samples, self.shape["key_value_heads"]
        grouped = tensor.reshape(arms, samples, heads, -1, tensor.shape[-1])
        return grouped.transpose(1, 2).reshape(arms * heads, -1, tensor.shape[-1])

    def _back(self, rows: Tensor, like: Tensor) -> Tensor:
        """What `_by_arm` gave, as [B, H_q, T, d]."""
        arms, samples, heads = self.running.count, self.running.samples, self.shape["key_value_heads"]
        grouped = rows.reshape(arms, heads, samples, -1, rows.shape[-1]).transpose(1, 2)
        return grouped.reshape(*like.shape[:-1], rows.shape[-1])

    def _check(self, queries: Tensor, output: Tensor) -> None:
        """Raises `ModelError` where the attention computes with other heads, widths or samples than it should."""
        shape, samples = self.shape, self.running.count * self.running.samples
        heads, width = shape["query_heads"], shape["key_dim"]
        found = (len(queries), queries.shape[1], queries.shape[-1], len(output), output.shape[-2])
        if found != (samples, heads, width, samples, heads) or output.shape[-1] < shape["value_dim"]:
            raise ModelError(
                f"the prefix at {self.name} is for {samples} samples, {heads} query heads of {width} and values of "
                f"{shape['value_dim']}, but that attention has queries {list(queries.shape)} and gives "
                f"{list(output.shape)}; leave prefixes out of the arms"
            )
