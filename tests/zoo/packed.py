"""Linear maps whose weights are packed, with the layouts of quantisation libraries, on any CPU and without these.

Their weights are small multiples of powers of two, so that every one of them stands for exactly the same numbers.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

#: Eight 4-bit values in 32 bits.
_SHIFTS = torch.arange(0, 32, 4)


def coarse(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers from 0 to 15 [out, in], and the scale of each row [out], so that weight ≈ (integers − 8) · scale."""
    scale = torch.exp2(torch.ceil(torch.log2(weight.detach().abs().amax(dim=1) / 7)))
    return (weight.detach() / scale[:, None]).round().clamp(-8, 7).to(torch.int32) + 8, scale


class BaseQuantLinear(nn.Module):
    """GPTQModel's layout, whose class PEFT knows: buffers alone, the weight as [in / 8, out]."""

    qweight: Tensor
    scales: Tensor

    def __init__(self, module: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = module.in_features, module.out_features
        integers, scale = coarse(module.weight)
        by_word = integers.T.unflatten(0, (-1, 8))
        self.register_buffer("qweight", (by_word << _SHIFTS[None, :, None]).sum(1).to(torch.int32))
        self.register_buffer("qzeros", torch.full((1, module.out_features // 8), -0x77777778, dtype=torch.int32))
        self.register_buffer("scales", scale[None])
        self.register_buffer("g_idx", torch.zeros(module.in_features, dtype=torch.int32))
        self.bias: Any = None if module.bias is None else module.bias

    def dequantize_weight(self) -> Tensor:
        """[in, out]."""
        integers = (self.qweight[:, None] >> _SHIFTS[None, :, None] & 15).flatten(0, 1)
        return (integers - 8).to(self.scales) * self.scales

    def forward(self, x: Tensor) -> Tensor:
        out = x @ self.dequantize_weight().to(x)
        return out if self.bias is None else out + self.bias


class MarlinQuantLinear(BaseQuantLinear):
    """A kernel without a backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class RoundingQuantLinear(BaseQuantLinear):
    """Inputs are quantised, with a gradient through their scale alone."""

    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(dim=-1, keepdim=True) / 127
        return super().forward((x / scale).round() * scale)


class QuantLinear(nn.Module):
    """AutoGPTQ's and AutoAWQ's layout and names, which PEFT no longer knows."""

    def __init__(self, module: nn.Linear) -> None:
        super().__init__()
        self.infeatures, self.outfeatures = module.in_features, module.out_features
        self.inner = (BaseQuantLinear(module),)
        self.register_buffer("qweight", self.inner[0].qweight)
        self.register_buffer("scales", self.inner[0].scales)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner[0](x)


class HQQLinear(nn.Module):
    """HQQ's layout: a parameter of bytes, scales in a plain dictionary, and a state that leaves children out."""

    def __init__(self, module: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = module.in_features, module.out_features
        integers, scale = coarse(module.weight)
        pairs = integers.unflatten(1, (-1, 2))
        self.W_q = nn.Parameter((pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8), requires_grad=False)
        self.meta: dict[str, Any] = {"scale": scale[:, None], "zero": torch.full((1,), 8.0).to(scale), "nbits": 4}
        self.bias = None if module.bias is None else module.bias.detach()

    def dequantize(self) -> Tensor:
        integers = torch.stack([self.W_q & 15, self.W_q >> 4], dim=-1).flatten(1)
        return (integers.to(self.meta["scale"]) - self.meta["zero"]) * self.meta["scale"]

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.dequantize().to(x), self.bias)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        prefix = kwargs.get("prefix", "")
        state = {f"{prefix}W_q": self.W_q, f"{prefix}scale": self.meta["scale"]}
        kwargs.get("destination", {}).update(state)
        return state


class PackedTensor(torch.Tensor):
    """A weight made of other tensors, as torchao's are: [out, in] as it says, of bytes and scales."""

    parts: ClassVar = ("integers", "scale")
    integers: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, integers: Tensor, scale: Tensor) -> "PackedTensor":
        return torch.Tensor._make_wrapper_subclass(cls, integers.shape, dtype=scale.dtype)  # type: ignore[attr-defined, no-any-return]

    def __init__(self, integers: Tensor, scale: Tensor) -> None:
        self.integers, self.scale = integers, scale

    @classmethod
    def of(cls, module: nn.Linear) -> "PackedTensor":
        integers, scale = coarse(module.weight)
        return cls((integers - 8).to(torch.int8), scale[:, None])

    def __tensor_flatten__(self) -> tuple[list[str], object]:
        return list(self.parts), None

    def dequantize(self) -> Tensor:  # type: ignore[override]
        return self.integers.to(self.scale) * self.scale

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is linear:
            inputs, weight, *bias = args
            return linear(inputs, weight.dequantize(), *bias)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any, kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].integers, args[0].scale)
        raise NotImplementedError(f"a packed tensor does not do {func}")


def _with_tensor(module: nn.Linear) -> nn.Module:
    module.weight = nn.Parameter(PackedTensor.of(module), requires_grad=False)
    return module


def _in_integers(module: nn.Linear) -> nn.Module:
    """A Linear of integers, as of 8-bit checkpoints that are loaded by hand: nothing can run it."""
    module.weight = nn.Parameter((coarse(module.weight)[0] - 8).to(torch.int8), requires_grad=False)
    return module


#: By name, how a plain linear module is packed.
PACKED = {"gptq": BaseQuantLinear, "hqq": HQQLinear, "tensor": _with_tensor}
UNTRAINABLE = {"no backward": MarlinQuantLinear, "rounded": RoundingQuantLinear}
FOREIGN = {"old": QuantLinear, "integers": _in_integers}


def packed(model: Any, pack: Any, *, only: str = "", where: str = ".layers.") -> Any:
    """Pack every linear module in the model's layers, in place.

    only: part of the names of those to pack.
    where: part of the names of what lies in a layer.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and where in name and only in name:
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, pack(module))
    return model


def unpacked(model: Any) -> Any:
    """Plain linear modules of the same numbers, in float64, in place."""
    for name, module in list(model.named_modules()):
        weight = None
        if isinstance(module, BaseQuantLinear):
            weight = module.dequantize_weight().T
        elif isinstance(module, HQQLinear):
            weight = module.dequantize()
        elif isinstance(getattr(module, "weight", None), PackedTensor):
            weight = module.weight.dequantize()
        if weight is not None:
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None)
            plain.weight = nn.Parameter(weight.double())
            if module.bias is not None:
                plain.bias = nn.Parameter(module.bias.detach().double())
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, plain)
    return model.double()
