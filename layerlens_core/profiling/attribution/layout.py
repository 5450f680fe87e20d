"""Where a tensor keeps its samples."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

#: The dimension counts samples alone; or samples, and for each of them something else; or the other way round.
Fold = Literal["whole", "outer", "inner"]


@frozen
class Layout:
    """Where a tensor [..., features] keeps its samples, whatever its sizes.

    dims: how many dimensions it has beside the features.
    dim: which of these counts the samples.
    fold: what else that dimension counts. Models that fold [samples, tokens] into one dimension are ``outer``.
    """

    dims: int
    dim: int
    fold: Fold

    def fits(self, shape: tuple[int, ...], samples: int) -> bool:
        """Whether a tensor of these dimensions, without its features, can be laid out so for so many samples."""
        if len(shape) != self.dims:
            return False
        size = shape[self.dim]
        return size == samples if self.fold == "whole" else size % samples == 0

    def owners(self, shape: tuple[int, ...], samples: int) -> Tensor:
        """The sample of every row [rows], in the order of the flattened dimensions."""
        before, size, after = prod(shape[: self.dim]), shape[self.dim], prod(shape[self.dim + 1 :])
        place = torch.arange(size)
        owner = place % samples if self.fold == "inner" else place * samples // max(size, 1)
        return owner[None, :, None].expand(before, size, after).flatten()

    def by_sample(self, rows: Tensor, samples: int) -> Tensor | None:
        """The tensor as [samples, rows of a sample, features]; None where its sizes do not fit the layout."""
        shape = tuple(rows.shape[:-1])
        if not self.fits(shape, samples):
            return None
        before, size, after = prod(shape[: self.dim]), shape[self.dim], prod(shape[self.dim + 1 :])
        width = rows.shape[-1]
        if self.fold == "inner":
            return rows.reshape(before * size // samples, samples, after, width).transpose(0, 1).flatten(1, 2)
        if before == 1:
            return rows.reshape(samples, size // samples * after, width)
        return rows.reshape(before, samples, size // samples * after, width).transpose(0, 1).flatten(1, 2)

    def in_place(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What `by_sample` gave, back where it was.

        rows: [samples, rows of a sample, features].
        shape: of the tensor, without its features.
        """
        samples, width = len(rows), rows.shape[-1]
        before, size, after = prod(shape[: self.dim]), shape[self.dim], prod(shape[self.dim + 1 :])
        if self.fold == "inner":
            rows = rows.reshape(samples, before * size // samples, after, width).transpose(0, 1)
        elif before > 1:
            rows = rows.reshape(samples, before, size // samples * after, width).transpose(0, 1)
        return rows.reshape(*shape, width)


def alone(rows: Tensor) -> Tensor:
    """A tensor [..., features] of a single sample, whose rows are all its own, as [1, rows, features]."""
    return rows.reshape(1, -1, rows.shape[-1])


def layouts(shape: tuple[int, ...], samples: int) -> Iterator[Layout]:
    """Every layout that a tensor of these dimensions, without its features, may have."""
    for dim, size in enumerate(shape):
        if size == samples:
            yield Layout(len(shape), dim, "whole")
        elif size % samples == 0 and size:
            yield Layout(len(shape), dim, "outer")
            yield Layout(len(shape), dim, "inner")


def agreeing(shape: tuple[int, ...], samples: int, touched: Mapping[int, Tensor]) -> frozenset[Layout]:
    """The layouts by which every row that was touched for one sample's sake is that sample's.

    shape: of the tensor, without its features.
    samples: in the batch.
    touched: by sample, which rows it touched [rows].
    """
    found = set()
    for layout in layouts(shape, samples):
        owners = layout.owners(shape, samples)
        if all(bool((owners[rows] == sample).all()) for sample, rows in touched.items()):
            found.add(layout)
    return frozenset(found)
