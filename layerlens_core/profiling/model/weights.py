"""Reach a module's weight wherever it lies: in the module, sharded over processes, or offloaded."""

import hashlib
from collections.abc import Callable

import torch
from attrs import define
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.inspection.packed import is_wrapper, packed_state, packed_tensors
from layerlens_core.profiling.model.packed import unpacked
from layerlens_core.values.inventory import LinearModule

#: Values of each parameter that go into a digest.
SAMPLED = 64


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are spread over processes, as FSDP2 does."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def digest(model: nn.Module) -> str:
    """A digest of names, shapes and evenly spaced values of all weights, the same on every device.

    Every process must call it where the weights are sharded. Weights that are offloaded count by name and shape alone.
    Packed weights count as they lie, with their scales and tables.
    """
    total = hashlib.sha256()
    for name, parameter in model.named_parameters():
        total.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        if not (parameter.is_meta or is_wrapper(parameter)):
            total.update(_some(parameter))
    for name, module in model.named_modules():
        # Sorted, as bitsandbytes moves its scales from one place to another when a module first runs.
        for part in sorted(_some(tensor) for tensor in packed_state(module).values() if not tensor.is_meta):
            total.update(name.encode() + part)
    return total.hexdigest()


def _some(tensor: Tensor) -> bytes:
    tensor = tensor.detach()
    whole = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).as_subclass(Tensor).flatten()
    some = whole[:: max(1, whole.numel() // SAMPLED)].contiguous()
    return some.view(torch.uint8).cpu().numpy().tobytes()


def dense_weight(module: nn.Module, target: LinearModule, model: PreTrainedModel) -> Callable[[], Tensor]:
    """A function that gives the weight as [out, in], a plain tensor.

    Where the weight is sharded or offloaded, it is at hand only while its layer runs, so in the backward pass. A packed
    (quantised) weight is unpacked at each call.

    module: that holds the weight.
    target: the same module in the inventory.
    model: that holds the module.

    Raises `ModelError` where the weight is packed and its library does not unpack it.
    """
    if packed_tensors(module):
        if (unpack := unpacked(module, target, model)) is None:
            raise ModelError(
                f"the weight of {target.name} is packed ({type(module).__name__}) and cannot be unpacked here; "
                "metrics that read weights need plain ones, so leave gora, weight_gradient and their like out"
            )
        return unpack
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(weight, DTensor) or weight.is_meta:
        return _Elsewhere(module, target)
    upright = _upright(module, weight.detach())
    return lambda: upright


@define(eq=False)
class _Elsewhere:
    """A weight that is at hand only while its layer runs."""

    module: nn.Module
    target: LinearModule

    def __call__(self) -> Tensor:
        """The weight [out, in]. Raises `ModelError` where it is not at hand."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        if weight.is_meta:
            hook = getattr(self.module, "_hf_hook", None)
            where = getattr(hook, "weights_map", None)
            if where is None:
                raise ModelError(
                    f"the weight of {self.target.name} is offloaded, so it cannot be read; "
                    "leave gora, weight_gradient and other metrics that read weights out"
                )
            weight = where["weight"].to(getattr(hook, "execution_device", None) or "cpu")
        if isinstance(weight, DTensor):
            raise ModelError(
                f"the weight of {self.target.name} is sharded and not at hand when its gradient is complete, so "
                "it cannot be read; leave weight_gradient and its like out, or use a larger --micro-batch"
            )
        return _upright(self.module, weight.detach())


def _upright(module: nn.Module, weight: Tensor) -> Tensor:
    plain = weight.as_subclass(Tensor)  # kernels read what lies at its address
    return plain if linear_kind(module) == "linear" else plain.T
