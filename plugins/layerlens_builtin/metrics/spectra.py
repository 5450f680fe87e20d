"""Singular values of the weights, for metrics that need no data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from layerlens_core.plugin import ActiveProfile, plain_weight


def singular_values(context: ActiveProfile) -> Iterator[tuple[str, Tensor]]:
    """By module that is scored, the singular values of W, descending, decomposed in float32 or wider.

    Raises `ModelError` where a weight cannot be read.
    """
    for done, name in enumerate(context.modules, start=1):
        with context.scoring(name):
            weight = plain_weight(context, name)
            values = torch.linalg.svdvals(weight.to(torch.promote_types(weight.dtype, torch.float32)))
        context.progress(done, len(context.modules))
        yield name, values.double()
