"""Bottleneck adapters of K arms beside one module: y + W_up · gelu(W_down · y + b_down) + b_up, each arm on its rows.

As the built-in method `adapter` computes it. Padded hidden units are gelu(0) = 0 and lead to no output, so neither side
of them gets a gradient; only b_up would get one in an arm without the adapter, and is kept from it.
"""

import math
from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import gelu

from layerlens_core.comparison.stacked.methods.noise import drawn
from layerlens_core.comparison.stacked.methods.place import Place

_DOWN, _DOWN_BIAS = "lora_down.default.weight", "lora_down.default.bias"
_UP, _UP_BIAS = "lora_up.default.weight", "lora_up.default.bias"


@frozen(eq=False, kw_only=True)
class Bottleneck(Place):
    """Adapters: W_down [K, M, d], b_down [K, M], W_up [K, d, M], b_up [K, d]; functions of the module's output."""

    @staticmethod
    def shapes(size: int, shape: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
        width = _width(shape)
        return {_DOWN: (size, width), _DOWN_BIAS: (size,), _UP: (width, size), _UP_BIAS: (width,)}

    @staticmethod
    def start(name: str, size: int, shape: Mapping[str, int], seed: int) -> Mapping[str, Tensor]:
        width = _width(shape)
        bias = drawn(f"{name} bias", size, 1, seed, within=1 / math.sqrt(width))
        return {_DOWN: drawn(name, size, width, seed), _DOWN_BIAS: bias[:, 0]}

    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output [..., d] with every arm's correction on its rows; the inputs are the same output."""
        size, arms = self.size, self.running.arms
        if size == 0:
            return output.clone()
        rows = self._by_arm(inputs).to(self.dtype)
        up, up_bias = self.tensors[_UP][arms, :, :size], self.tensors[_UP_BIAS][arms]
        correction = torch.baddbmm(up_bias[:, None], gelu(self._hidden(rows, size)), up.mT)
        return self._back((self._by_arm(output) + correction).to(output.dtype), output)

    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add to the gradients, and give the derivative of the correction by the inputs [..., d]."""
        size, arms, gradients = self.size, self.running.arms, self.gradients
        if size == 0:
            return None
        rows, g = self._by_arm(inputs).to(self.dtype), self._by_arm(gradient).to(self.dtype)
        hidden = self._hidden(rows, size)
        gradients[_UP][arms, :, :size].baddbmm_(g.mT, gelu(hidden))
        gradients[_UP_BIAS][arms].addcmul_(g.sum(dim=1), self.having[arms, None])
        of_hidden = torch.ops.aten.gelu_backward(torch.bmm(g, self.tensors[_UP][arms, :, :size]), hidden)
        down = self.tensors[_DOWN][arms, :size]
        gradients[_DOWN][arms, :size].baddbmm_(of_hidden.mT, rows)
        gradients[_DOWN_BIAS][arms, :size] += of_hidden.sum(dim=1)
        return self._back(torch.bmm(of_hidden, down).to(inputs.dtype), inputs)

    def _hidden(self, rows: Tensor, size: int) -> Tensor:
        arms = self.running.arms
        bias = self.tensors[_DOWN_BIAS][arms, :size]
        return torch.baddbmm(bias[:, None], rows, self.tensors[_DOWN][arms, :size].mT)


def _width(shape: Mapping[str, int]) -> int:
    return shape.get("features") or shape["out_features"]
