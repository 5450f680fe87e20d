"""Documents packed in one row, taken apart: they are the samples, and none of them sees another."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from layerlens_core.errors import DataError


def documents(packing: Mapping[str, Tensor], first: int, end: int, where: str) -> list[tuple[int, int]]:
    """Where each document of a row begins and ends, counted from the row's first real token.

    packing: columns that tell, of the row; without any the row is one document.
    first: the row's first real token.
    end: where its real tokens end.
    where: names the row in messages.

    Raises `DataError` where columns tell different things, or what no model that LayerLens profiles would do.
    """
    found = {key: _starts(key, value, first, end, where) for key, value in packing.items()}
    told = {tuple(starts): key for key, starts in found.items()}
    if len(told) > 1:
        raise DataError(f"{where}: {' and '.join(sorted(told.values()))} tell of different documents")
    starts = next(iter(found.values()), [0])
    return list(zip(starts, [*starts[1:], end - first], strict=True))


def _starts(key: str, value: Tensor, first: int, end: int, where: str) -> list[int]:
    length = end - first
    if key in ("cu_seq_lens_q", "cu_seq_lens_k", "seq_lengths"):
        bounds = value.flatten().tolist()
        if key == "seq_lengths":
            bounds = [0, *torch.cumsum(value.flatten(), 0).tolist()]
        if bounds[:1] != [0] or bounds[-1] != length or any(a >= b for a, b in pairwise(bounds)):
            raise DataError(f"{where}: {key} does not divide the row's {length} tokens")
        return [int(bound) for bound in bounds[:-1]]
    if value.dim() != 1 or len(value) < end:
        raise DataError(f"{where}: {key} has shape {tuple(value.shape)}, and not one entry a token; leave it out")
    row = value[first:end].long()
    if key == "seq_idx":
        return [0, *((row[1:] != row[:-1]).nonzero().flatten() + 1).tolist()]
    starts = [0, *((row[1:] != row[:-1] + 1).nonzero().flatten() + 1).tolist()]
    if bool((row[starts] != 0).any()):
        wrong = int(row[starts][row[starts] != 0][0])
        raise DataError(
            f"{where}: position_ids go on at {wrong}, where documents begin at 0; give each document a row of its own "
            "without position_ids, which are then counted from its first token"
        )
    return starts
