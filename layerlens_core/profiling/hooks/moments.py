"""Moments of rows that come in batches."""

import torch
from attrs import define
from torch import Tensor


@define(eq=False)
class Moments:
    """Count, mean and scatter of rows, merged batch by batch (Chan, Golub and LeVeque 1979).

    count: of the rows.
    mean: over the rows [features], float64.
    scatter: Σ (x − mean)(x − mean)ᵀ [features, features], float64.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def nothing(cls, features: int, device: torch.device) -> "Moments":
        """Of no rows."""
        return cls(
            0,
            torch.zeros(features, dtype=torch.float64, device=device),
            torch.zeros(features, features, dtype=torch.float64, device=device),
        )

    def add(self, rows: Tensor) -> None:
        """Take rows [n, features]; products of those in 16 and 32 bits, less their mean, are summed in float32."""
        new = len(rows)
        if not new:
            return
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        mean = rows.double().mean(dim=0)
        centred = rows - mean.to(rows.dtype)
        total = self.count + new
        apart = mean - self.mean
        self.scatter += centred.T @ centred
        self.scatter += torch.outer(apart, apart) * (self.count * new / total)
        self.mean += apart * (new / total)
        self.count = total
