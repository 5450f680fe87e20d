"""Start LoRA along the leading directions of the gradient that was profiled.

At B = 0 the gradient of B is (α/r) G Aᵀ, so the first steps lose the part of the gradient that A projects away. With
rows of A along the leading right singular vectors of G, the first step of B is the best that its rank allows. The base
weights stay as they are, since B = 0; LoRA-GA (arXiv 2407.05000) starts B along left vectors, and must change them.
"""

import math
from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor

from layerlens_core.adaptation.attached import lora_layers

#: The norm of a row of A as PEFT draws it: in entries from U(−1/√in, 1/√in), each of variance 1/(3·in).
ROW_NORM = 1 / math.sqrt(3)


@torch.no_grad()
def align(model: PeftModel, directions: Mapping[str, Tensor], adapter: str = "default") -> None:
    """Set the rows of every A to the leading directions of its module, at the norm of the usual initialisation.

    Rows beyond the k-th stay as they were drawn; so does the A of a module without directions, such as stacked experts.

    model: with LoRA attached.
    directions: by module, orthonormal rows [k, in], the leading one first.
    adapter: name of the adapter to change.
    """
    for name, layer in lora_layers(model).items():
        if name in directions and adapter in layer.lora_A:
            set_along(layer.lora_A[adapter].weight, directions[name])


@torch.no_grad()
def set_along(a: Tensor, directions: Tensor) -> None:
    """Set the first rows of one A to directions, at the norm of the usual initialisation.

    a: [r, in], changed in place.
    directions: orthonormal rows [k, in], the leading one first; those beyond the r-th are not used.
    """
    rows = directions[: len(a)]
    a[: len(rows)] = ROW_NORM * rows.to(a)
