"""Packed weights in the pass: whether gradients get through their modules, and how they are unpacked.

Scores need a module's inputs and the gradients of its outputs. A packed weight is neither, so scores are those of an
update that is added to the packed weight, as LoRA's is; they are exact where the module hands back the gradient of a
linear map. That is tried before the pass, as many kernels for packed weights have no backward pass, and some drop the
gradient without a word.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.inspection.packed import is_wrapper, packed_map, packed_tensors
from layerlens_core.values.inventory import LinearModule

#: Rows that a module is tried on; kernels want them in multiples.
_ROWS = 16
#: How far two gradients may differ, relative to their size: packed weights are multiplied in 16 bits, or in 32.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}


@contextmanager
def gradients_pass(model: PreTrainedModel) -> Iterator[None]:
    """Inside, no module with packed weights stops a gradient unseen.

    Linear maps of each kind are tried at once, other modules (experts) whenever they run.

    Raises `ModelError`, at once or when the module runs.
    """
    tried: set[object] = set()
    handles = []
    try:
        for name, module in model.named_modules():
            tensors = packed_tensors(module)
            if not tensors or isinstance(module, nn.Embedding):
                continue
            if linear_kind(module) is None and packed_map(module) is None:
                handles.append(module.register_forward_hook(_watch(name)))
            elif (kind := _kind(module, tensors)) not in tried:
                tried.add(kind)
                _try(name, module, model)
        yield
    finally:
        for handle in handles:
            handle.remove()


def mixes_samples(model: PreTrainedModel) -> bool:
    """Whether what one sample gives depends on the others of its batch.

    bitsandbytes' 8-bit kernels leave a column of inputs in 16 bits where any row of the batch has an outlier in it. On
    a CPU they do not while they train.
    """
    for module in model.modules():
        threshold = getattr(getattr(module, "state", None), "threshold", None)
        if isinstance(threshold, float) and threshold > 0 and packed_tensors(module):
            return any(tensor.device.type != "cpu" for tensor in packed_tensors(module))
    return False


def unpacked(module: nn.Module, target: LinearModule, model: PreTrainedModel) -> Callable[[], Tensor] | None:
    """A function that unpacks a module's weight as [out, in], the way of its library; None where there is none.

    What it gives was compared with what the module multiplies gradients with.

    module: that holds the weight.
    target: the same module in the inventory.
    model: that holds the module.
    """
    unpack = _unpacking(module)
    shape = (target.out_features, target.in_features)
    if unpack is None or _is_elsewhere(module):
        return None
    seen = _gradient(module, target.in_features, model, seed=0)
    if isinstance(seen, Exception):
        return None
    gradient, of_output = seen
    with torch.no_grad():
        weight = unpack()
        if weight.shape == shape and _same(of_output.to(weight) @ weight, gradient):
            return unpack
        if weight.mT.shape == shape and _same(of_output.to(weight) @ weight.mT, gradient):
            return lambda: unpack().mT
    return None


def _unpacking(module: nn.Module) -> Callable[[], Tensor] | None:
    """How the library that packed a weight unpacks it, perhaps transposed."""
    weight: Any = getattr(module, "weight", None)
    if getattr(weight, "quant_state", None) is not None:
        return lambda: _bitsandbytes().dequantize_4bit(weight.data, weight.quant_state)
    if hasattr(weight, "SCB"):

        def unpack() -> Tensor:
            state: Any = module.state  # the module moves them there when it first runs
            scale = state.SCB if state.SCB is not None else weight.SCB
            return _bitsandbytes().int8_vectorwise_dequant(weight.data, scale)  # type: ignore[no-any-return]

        return unpack
    holders = [weight, module]
    for holder in holders if isinstance(weight, Tensor) and is_wrapper(weight) else holders[1:]:
        for name in ("dequantize", "dequantize_weight"):
            if callable(method := getattr(holder, name, None)):
                return lambda method=method: method().detach()  # type: ignore[misc]
    return None


def _bitsandbytes() -> Any:
    return import_module("bitsandbytes.functional")


def _kind(module: nn.Module, tensors: list[Tensor]) -> object:
    """What decides how a packed module computes: its class, and how its weights say that they are packed."""
    wrappers: list[Any] = [tensor for tensor in tensors if is_wrapper(tensor)]
    contexts = [repr(wrapper.__tensor_flatten__()[1]) for wrapper in wrappers]
    return type(module), tuple(type(tensor) for tensor in tensors), tuple(contexts)


def _try(name: str, module: nn.Module, model: PreTrainedModel) -> None:
    """Raises `ModelError` where a linear map does not run, or does not hand back the gradient of one."""
    if _is_elsewhere(module):
        return
    packed = f"{name} is packed ({_described(module)}) and"
    n_in = module.in_features if isinstance(module, nn.Linear) else packed_map(module)[0]  # type: ignore[index]
    seen = [_gradient(module, n_in, model, seed=seed) for seed in (0, 1)]
    failures = [each for each in seen if isinstance(each, Exception)]
    if failures:
        reason = " ".join(str(failures[0]).split())
        raise ModelError(f"{packed} does not run: {type(failures[0]).__name__}: {reason}")
    (first, _), (second, _) = seen  # type: ignore[misc]
    if not first.any() or not second.any():
        repacked = any(
            getattr(vars(t).get("quant_state"), "packing_format_for_cpu", False) for t in module.parameters()
        )
        advice = (
            "on a CPU bitsandbytes packs weights anew when they run in evaluation mode; load the model again"
            if repacked
            else "load the model in a form that does, such as bitsandbytes', or without quantisation"
        )
        raise ModelError(
            f"{packed} lets no gradient through to its input, so that neither it nor what lies below it can be scored "
            f"or trained; {advice}"
        )
    if not _same(first, second):
        raise ModelError(
            f"{packed} gives gradients that depend on its input, as no linear map does, so that scores would not be "
            "exact; load the model in another form, such as bitsandbytes', or without quantisation"
        )


def _gradient(module: nn.Module, n_in: int, model: PreTrainedModel, *, seed: int) -> tuple[Tensor, Tensor] | Exception:
    """The gradient of a module's random input, for an output gradient that does not depend on the seed, with that.

    Zeros where no gradient comes back. Why, where the module does not run in the model's dtype, nor in others.
    """
    failures = []
    for dtype in dict.fromkeys((_dtype(model), torch.bfloat16, torch.float16, torch.float32)):
        try:
            return _gradient_in(dtype, module, n_in, seed)
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, ImportError) as error:
            failures.append(error)
    return failures[0]


def _gradient_in(dtype: torch.dtype, module: nn.Module, n_in: int, seed: int) -> tuple[Tensor, Tensor]:
    device = next((tensor.device for tensor in packed_tensors(module)), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(1, _ROWS, n_in, generator=generator).to(device, dtype).requires_grad_(True)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # about casts, which the pass may do without
        output = module(inputs)
        of_output = torch.randn(output.shape, generator=generator.manual_seed(2)).to(output)
        gradient = None
        if output.requires_grad:
            try:
                (gradient,) = torch.autograd.grad(output, inputs, of_output, allow_unused=True)
            except (RuntimeError, NotImplementedError):  # a kernel without a backward pass
                gradient = None
    return (torch.zeros_like(inputs) if gradient is None else gradient)[0], of_output[0]


def _watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if torch.is_grad_enabled() and _requires(args) and not _requires(output):
            raise ModelError(
                f"{name} is packed ({_described(module)}) and lets no gradient through, so that what lies below it "
                "can be neither scored nor trained; load the model without quantisation"
            )

    return hook


def _requires(values: Any) -> bool:
    values = values if isinstance(values, tuple) else (values,)
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)


def _described(module: nn.Module) -> str:
    """A module's class, and that of its packed weight where it has one of its own."""
    kinds = [type(tensor).__name__ for tensor in packed_tensors(module)]
    own = [kind for kind in kinds if kind not in ("Tensor", "Parameter", type(module).__name__)]
    return f"{type(module).__name__} of {own[0]}" if own else type(module).__name__


def _is_elsewhere(module: nn.Module) -> bool:
    """Whether the weight is sharded or offloaded."""
    return any(isinstance(tensor, DTensor) or tensor.is_meta for tensor in packed_tensors(module))


def _dtype(model: PreTrainedModel) -> torch.dtype:
    """Of activations."""
    wide = (p.dtype for p in model.parameters() if p.is_floating_point() and p.dtype.itemsize > 1)
    return next(wide, torch.float32)


def _same(found: Tensor, expected: Tensor) -> bool:
    tolerance = _TOLERANCE.get(expected.dtype, 3e-2)
    found, expected = found.double(), expected.double()
    return bool((found - expected).norm() <= tolerance * expected.norm())
