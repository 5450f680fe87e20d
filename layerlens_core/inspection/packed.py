"""Packed (quantised) weights: which modules hold them, how many parameters they stand for, and what they take.

Four kinds are known, by what they look like rather than by the library that they come from:

- a tensor of a class of its own that says what it stands for (torchao, quanto);
- a parameter of integers or of 8-bit floats (bitsandbytes, EETQ, FP8), perhaps of several values in each;
- buffers or plain tensors of integers in a module that is no `nn.Linear` (GPTQ, AWQ, AQLM, HQQ);
- a parameter that is unpacked whenever it is read (bitsandbytes' experts).
"""

from collections.abc import Iterator, Mapping
from math import prod

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils.parametrize import ParametrizationList
from transformers.pytorch_utils import Conv1D

#: Classes that are no `nn.Linear` and that PEFT's own dispatchers adapt, by the name of a base: GPTQModel's (GPTQ and
#: AWQ), HQQ's, EETQ's, AQLM's, and Intel's.
_ADAPTED = frozenset({"BaseQuantLinear", "HQQLinear", "EetqLinear", "QuantizedLinear", "PatchedLinear"})
_WIDTHS = (("in_features", "out_features"), ("infeatures", "outfeatures"))
_EXPERT_WIDTHS = (("hidden_dim", "intermediate_dim"), ("hidden_size", "intermediate_size"))
#: Attributes that hold the values of a format, such as the sixteen of nf4: the same in every module.
_CONSTANTS = frozenset({"code"})
_DEPTH = 4  # of objects in objects: a weight, its state, the state of its state


@frozen
class Count:
    """Parameters of a model, shared ones once.

    parameters: as many as the model has when it is not packed.
    packed: how many of them lie packed.
    packed_bytes: memory of these, with their scales, zero points and tables.
    state_bytes: of that, what bitsandbytes keeps beside its parameters, which `get_memory_footprint` does not see.
    """

    parameters: int
    packed: int
    packed_bytes: int
    state_bytes: int = 0


def count(model: nn.Module) -> Count:
    """Count the parameters of a model or module."""
    seen: set[int] = set()
    places: dict[object, int] = {}
    beside: dict[object, int] = {}
    parameters = packed = 0
    for module in model.modules():
        holders = packed_tensors(module)
        # Tied modules share the tensor that holds the weight, whatever it is.
        if holders and not any(id(tensor) in seen for tensor in holders):
            packed += (amount := _stands_for(module, holders))
            parameters += amount
            places |= {_place(leaf): leaf.numel() * leaf.element_size() for _, leaf in _named_leaves(module)}
            states = (leaf for tensor in holders for leaf in _leaves(getattr(tensor, "quant_state", None)))
            beside |= {_place(leaf): leaf.numel() * leaf.element_size() for leaf in states}
        seen.update(map(id, holders))
        for parameter in _unpacked(module, holders).values():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters += parameter.numel()
    state = sum(size for place, size in beside.items() if place in places)
    return Count(parameters, packed, sum(places.values()), state)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is what kernels take it for: strided floating-point numbers at its own address."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.is_floating_point()
        and tensor.dtype.itemsize > 1
    )


def is_wrapper(tensor: Tensor) -> bool:
    """Whether a tensor is made of other tensors, and has no values at an address of its own."""
    return hasattr(tensor, "__tensor_flatten__") and not isinstance(tensor, DTensor)


def packed_tensors(module: nn.Module) -> list[Tensor]:
    """The tensors that hold the packed weights of a module itself; none where it is not packed."""
    if isinstance(module, (nn.Linear, Conv1D, nn.Embedding)):
        weight = module._parameters.get("weight", module._buffers.get("weight"))
        if weight is None:
            return []
        shape = _widths(module) or _rows(module)
        other = shape is not None and not isinstance(weight, DTensor) and prod(shape) != weight.numel()
        return [weight] if other or _is_packed(weight) else []
    held: dict[str, Tensor] = {name: p for name, p in module.named_parameters(recurse=False) if name != "bias"}
    if _widths(module) is None and _rows(module) is None:
        return [tensor for tensor in held.values() if _is_packed(tensor)]
    # Maps of other classes keep their weight anywhere. Of others buffers are positions, masks and counters.
    held |= {name: v for name, v in (*module._buffers.items(), *vars(module).items()) if isinstance(v, Tensor)}
    held.pop("bias", None)
    found = [tensor for tensor in held.values() if _is_packed(tensor)]
    return found or (list(held.values()) if adapted_by_peft(module) else [])


def _is_packed(tensor: Tensor) -> bool:
    """Whether a tensor's values are no weights as they lie: integers, 8-bit floats, or of a class of its own."""
    if is_wrapper(tensor):
        return True
    if getattr(tensor, "quant_state", None) is not None:  # bitsandbytes may store 4-bit values as 16-bit floats
        return True
    numbers = tensor.is_floating_point() or tensor.is_complex()
    return tensor.dtype.itemsize == 1 if numbers else tensor.dtype not in (torch.bool, torch.int64)


def _unpacked(module: nn.Module, holders: list[Tensor]) -> dict[str, Tensor]:
    """The parameters of a module that are weights as they lie, and its bias wherever that is kept.

    Beside a packed weight, scales and tables are parameters too, and stand for none.
    """
    own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    if not holders:
        return own
    if isinstance(module, ParametrizationList) or _widths(module) or _rows(module):
        bias = getattr(module, "bias", None)  # of GPTQ a buffer, of HQQ a plain tensor
        return {"bias": bias} if isinstance(bias, Tensor) else {}
    packed = set(map(id, holders))
    return {name: p for name, p in own.items() if id(p) not in packed and "scale" not in name}


def packed_map(module: nn.Module) -> tuple[int, int] | None:
    """The widths in and out of a linear map that a class of its own holds packed; None where it holds none."""
    if isinstance(module, (nn.Linear, Conv1D)) or not packed_tensors(module):
        return None
    return _widths(module)


def adapted_by_peft(module: nn.Module) -> bool:
    """Whether PEFT adapts a packed linear map of a class of its own."""
    names = {base.__name__ for base in type(module).__mro__}
    return bool(names & _ADAPTED) and ("QuantizedLinear" not in names or hasattr(module, "codebooks"))


def saves_children(module: nn.Module) -> bool:
    """Whether what stands beside a module's weights is saved with it; HQQ's class writes its own tensors alone."""
    return type(module).state_dict is nn.Module.state_dict


def packed_state(module: nn.Module) -> dict[str, Tensor]:
    """The plain tensors that make up a module's packed weight, by dotted name; empty where nothing is packed."""
    return dict(_named_leaves(module)) if packed_tensors(module) else {}


def _stands_for(module: nn.Module, holders: list[Tensor]) -> int:
    """How many parameters the packed weights of a module stand for, its bias left out."""
    shape = _widths(module) or _rows(module)
    if shape is not None:
        return prod(shape)
    names = {id(parameter): name for name, parameter in module.named_parameters(recurse=False)}
    return sum(_stated(module, each) or _of_experts(module, names[id(each)], each) or each.numel() for each in holders)


def _stated(module: nn.Module, parameter: Tensor) -> int | None:
    """What bitsandbytes notes beside a parameter."""
    beside = module if isinstance(module, ParametrizationList) else ()
    for holder in (parameter, *beside):
        shape = getattr(getattr(holder, "quant_state", None), "shape", None)
        if shape is not None:
            return int(prod(shape))
    return None


def _of_experts(module: nn.Module, name: str, parameter: Tensor) -> int | None:
    """Stacked experts [experts, out, bytes of a row], whose rows are as long as their input is wide."""
    for hidden, inner in _EXPERT_WIDTHS:
        width = getattr(module, inner if "down" in name else hidden, None)
        if parameter.dim() == 3 and isinstance(width, int):
            return parameter.shape[0] * parameter.shape[1] * width
    return None


def _widths(module: nn.Module) -> tuple[int, int] | None:
    """Widths in and out of a linear map."""
    for names in _WIDTHS:
        n_in, n_out = (getattr(module, name, None) for name in names)
        if isinstance(n_in, int) and isinstance(n_out, int):
            return n_in, n_out
    if type(module).__name__ == "EetqLinear":  # transformers' own notes no widths
        n_in, n_out = module.weight.shape  # type: ignore[misc]
        return int(n_in), int(n_out)
    return None


def _rows(module: nn.Module) -> tuple[int, int] | None:
    """Rows and widths of an embedding."""
    rows, width = getattr(module, "num_embeddings", None), getattr(module, "embedding_dim", None)
    return (rows, width) if isinstance(rows, int) and isinstance(width, int) else None


def _named_state(module: nn.Module) -> Iterator[tuple[str, object]]:
    """All that a module keeps of its packed weights."""
    own = {**module._parameters, **module._buffers}
    kept = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    beside = {"bias", *_unpacked(module, packed_tensors(module))}
    yield from ((name, value) for name, value in {**own, **kept}.items() if name not in beside)
    if isinstance(module, ParametrizationList):
        yield from ((f"{at}", vars(child).get("quant_state")) for at, child in enumerate(module))


def _named_leaves(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[object] = set()
    for name, value in _named_state(module):
        for at, leaf in enumerate(_leaves(value)):
            if (place := _place(leaf)) not in seen:
                seen.add(place)
                yield f"{name}.{at}", leaf


def _leaves(value: object, depth: int = 0) -> Iterator[Tensor]:
    """The plain tensors of which something is made."""
    if depth > _DEPTH or value is None or isinstance(value, (nn.Module, type, str)):
        return
    inside: list[object] = []
    if isinstance(value, Tensor):
        if is_wrapper(value):
            inside = [getattr(value, name) for name in value.__tensor_flatten__()[0]]  # type: ignore[attr-defined]
        else:
            yield value
        inside += vars(value).values()
    elif isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (list, tuple)):
        inside = list(value)
    elif not callable(value):
        inside = [each for name, each in getattr(value, "__dict__", {}).items() if name not in _CONSTANTS]
    for each in inside:
        yield from _leaves(each, depth + 1)


def _place(tensor: Tensor) -> object:
    """Where a tensor lies; two of one place are one."""
    return id(tensor) if tensor.is_meta or isinstance(tensor, DTensor) else (tensor.device, tensor.data_ptr())
