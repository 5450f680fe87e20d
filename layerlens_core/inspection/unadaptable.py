"""Linear modules that look like targets and are not: whatever was attached to them would not run."""

import ast
from functools import cache
from inspect import getsource
from textwrap import dedent

import torch
from torch import nn

# Attributes that describe a weight; code that reads only these still leaves the product to the module's own call.
_DESCRIPTIONS = frozenset({"data", "device", "dtype", "is_cuda", "is_meta", "ndim", "numel", "requires_grad", "shape"})
#: Classes that read a weight only in a mode that is off unless asked for: BLOOM's pretraining_tp with slow_but_exact,
#: and DeBERTa's separate queries, which transformers never passes.
_CALL_ANYWAY = frozenset({"BloomAttention", "BloomMLP", "DisentangledSelfAttention"})


def obstacle(module: nn.Module, parent: nn.Module, key: str) -> str | None:
    """Why nothing can be attached to a linear module, or None where something can.

    Two kinds are known: a module whose class computes more than its linear map (the routers of Llama 4 and Phi-MoE give
    tuples), and a module that its parent does not call, or not in training on a GPU: WavLM and `nn.MultiheadAttention`
    hand its weight to a function, Mamba's mixers to a CUDA kernel.

    key: the module's name in ``parent``.
    """
    if not _is_a_linear_map(module):
        return f"its class {type(module).__name__} computes more than a linear map"
    if key in read_directly(type(parent)):  # type: ignore[arg-type]
        return f"{type(parent).__name__} reads its weight instead of calling it"
    return None


def _is_a_linear_map(module: nn.Module) -> bool:
    """Whether a module computes one linear map.

    Tried on transformers' own classes whose forward pass is not that of `nn.Linear`: one row must give one row.
    """
    kind = type(module)
    if not isinstance(module, nn.Linear) or kind.forward is nn.Linear.forward:
        return True
    library, _, inside = kind.__module__.partition(".")
    if library not in ("transformers", "transformers_modules") or inside.startswith("integrations."):
        return True  # of a quantisation library, whose linear modules PEFT knows
    row = torch.zeros(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    with torch.no_grad():
        try:
            output = kind.forward(module, row)
        except (RuntimeError, TypeError):
            return False
    return isinstance(output, torch.Tensor) and output.shape == (1, module.out_features)


@cache
def read_directly(kind: type[nn.Module]) -> frozenset[str]:
    """The children of a class whose weights its code reads, by their names in it."""
    if issubclass(kind, nn.MultiheadAttention):
        return frozenset({"out_proj"})
    if kind.__name__ in _CALL_ANYWAY:
        return frozenset()
    read: set[str] = set()
    for base in kind.__mro__:
        if issubclass(base, nn.Module) and base.__module__.partition(".")[0] != "torch":
            try:
                tree = ast.parse(dedent(getsource(base)))
            except (OSError, TypeError, SyntaxError):
                continue  # a class without a source: of an interactive session, or of an extension module
            read.update(_weights_read(tree))
    return frozenset(read)


def _weights_read(tree: ast.AST) -> set[str]:
    """X of every ``self.X.weight`` that is used as a value, outside the functions that initialise weights."""
    read = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or "init" in function.name or "reset" in function.name:
            continue
        parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(function):
            match node:
                case ast.Attribute(
                    attr="weight", ctx=ast.Load(), value=ast.Attribute(attr=child, value=ast.Name(id="self"))
                ) if not _only_describes(parents[node]):
                    read.add(child)
    return read


def _only_describes(use: ast.AST) -> bool:
    match use:
        case ast.Attribute(attr=attr):
            return attr in _DESCRIPTIONS
        case ast.Call(func=ast.Name(id="isinstance" | "hasattr")):
            return True
    return False
