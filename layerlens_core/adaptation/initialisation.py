"""Where LoRA starts, other than PEFT has it: along the gradient that was profiled, or scaled by the rank.

At B = 0 the gradient of B is (α/r) G Aᵀ, so the first steps lose the part of the gradient that A projects away. With
rows of A along the leading right singular vectors of G, the first step of B is the best that its rank allows. The base
weights stay as they are, since B = 0; LoRA-GA (arXiv 2407.05000) starts B along left vectors, and must change them.

The best rate of LoRA falls about as r^-½ with the rank (docs/evidence.md), and one rate trains all modules of a plan.
The change of the weights by a step of B is in proportion to A, so rows of A in proportion to (r̄/r)^½ would bring
modules of other ranks to their own best rate. (r̄/r)^¼ is half of that, as the evidence for any of it is mixed.
"""

import math
from collections.abc import Mapping
from statistics import fmean

import torch
from peft import PeftModel
from torch import Tensor, nn

from layerlens_core.adaptation.attached import lora_layers

#: Rows of A are scaled by this power of the mean rank over their own.
BY_RANK = 0.25
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
        if name in directions and adapter in layer.lora_A and isinstance(layer.lora_A[adapter], nn.Linear):
            set_along(layer.lora_A[adapter].weight, directions[name])


@torch.no_grad()
def set_along(a: Tensor, directions: Tensor) -> None:
    """Set the first rows of one A to directions, at the norm of the usual initialisation.

    a: [r, in], changed in place.
    directions: orthonormal rows [k, in], the leading one first; those beyond the r-th are not used.
    """
    rows = directions[: len(a)]
    a[: len(rows)] = ROW_NORM * rows.to(a)


@torch.no_grad()
def scale_by_rank(model: PeftModel, adapter: str = "default") -> None:
    """Scale every A by (r̄/r)^¼, r̄ the mean rank over the modules.

    model: with LoRA attached.
    adapter: name of the adapter to change.
    """
    held = [layer for layer in lora_layers(model).values() if adapter in layer.lora_A]
    layers = [layer for layer in held if isinstance(layer.lora_A[adapter], nn.Linear)]  # no core
    mean = fmean(layer.r[adapter] for layer in layers) if layers else 1.0
    for layer in layers:
        layer.lora_A[adapter].weight.mul_(factor_by_rank(layer.r[adapter], mean))


def factor_by_rank(rank: int, mean: float) -> float:
    """(r̄/r)^¼.

    rank: of a module.
    mean: over the modules.
    """
    return math.pow(mean / rank, BY_RANK)
