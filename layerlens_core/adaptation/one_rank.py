"""LoRA of several ranks as LoRA of one: A and B padded with zeros to the largest rank, and that undone.

Rows of zeros in A and columns of zeros in B change nothing of B·A. Neither gets a gradient, as each is multiplied by
the other, so that they stay zero while they are trained. llama.cpp divides α by the rank of each tensor, SGLang wants
every tensor to have the rank r of the configuration, and vLLM multiplies all of them by α/r: at one rank that is the
same number.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def pad(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The tensors with every A [r, in] made [rank, in] and every B [out, r] made [out, rank]; the others as they are.

    tensors: by name, ``….lora_A.weight`` or with an adapter's name in between.
    rank: none is larger.
    """
    return {name: _padded(tensor, side, rank) if (side := _side(name)) else tensor for name, tensor in tensors.items()}


def trim(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Undo `pad` where a model has smaller ranks and what it would lose is zero; the others stay as they are.

    tensors: by name, as in `pad`.
    shapes: of the model's own tensors, under the same names.
    """
    trimmed = dict(tensors)
    for a_name, a in tensors.items():
        b_name = a_name.replace(".lora_A.", ".lora_B.")
        if _side(a_name) != "A" or b_name not in tensors or a_name not in shapes:
            continue
        b, rank = tensors[b_name], shapes[a_name][0]
        if a.dim() == b.dim() == 2 and rank < len(a) == b.shape[1] and rank_of(a, b) <= rank:
            trimmed[a_name], trimmed[b_name] = a[:rank], b[:, :rank]
    return trimmed


def rank_of(a: Tensor, b: Tensor) -> int:
    """The rank without padding: how many leading rows of A [r, in] and columns of B [out, r] hold all that is not zero.

    Where all is zero nothing tells padding apart, and it is r.
    """
    used = (a != 0).any(dim=1) | (b != 0).any(dim=0)
    return int(used.nonzero()[-1]) + 1 if bool(used.any()) else len(a)


def _side(name: str) -> str | None:
    """Whether a tensor's name is that of an A or a B."""
    parts = name.split(".")[-3:]
    return "A" if "lora_A" in parts else "B" if "lora_B" in parts else None


def _padded(tensor: Tensor, side: str, rank: int) -> Tensor:
    if tensor.dim() != 2:  # a placeholder of a process that does not write
        return tensor
    missing = rank - tensor.shape[0 if side == "A" else 1]
    if missing <= 0:
        return tensor
    shape = (missing, tensor.shape[1]) if side == "A" else (tensor.shape[0], missing)
    return torch.cat((tensor, tensor.new_zeros(shape)), dim=0 if side == "A" else 1)
