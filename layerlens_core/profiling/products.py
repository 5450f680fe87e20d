"""Exact norms of per-sample and per-group gradients of a linear module, by several routes.

For sample i with inputs aᵢ [T, in] and output gradients bᵢ [T, out] the weight gradient is gᵢ = bᵢᵀ aᵢ. Wanted are some
of ‖gᵢ‖², ‖Σ gᵢ‖² over groups of consecutive samples, and Σ gᵢ itself. With Gram matrices,
⟨gᵢ, gⱼ⟩ = Σₜₛ (aᵢₜ·aⱼₛ)(bᵢₜ·bⱼₛ), and no [out, in] matrix is formed:

sample-gram  the T × T Gram matrices of each sample: ‖gᵢ‖².
group-gram   those, and the ones between samples of a group (three of T × T for a pair): ‖gᵢ‖² and ‖Σ gᵢ‖².
direct       batched products gᵢ, a few groups at a time; where no ‖gᵢ‖² is wanted, Σ gᵢ of each group at once.
mixed        sample-gram for ‖gᵢ‖², and Σ gᵢ of each group at once.

Dropping the terms t ≠ s, a common approximation, is wrong.

16-bit operands are multiplied as they are and summed in float32, in which their products are exact: on a CUDA device
by `layerlens_core.profiling.fused` where Triton is installed, or else by matmuls that give float32. A CPU has no such
matmul, so operands are widened first.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch
from attrs import define, field, frozen
from torch import Tensor

if TYPE_CHECKING:
    from layerlens_core.profiling.fused import Tiling

Route = Literal["sample-gram", "group-gram", "direct", "mixed"]

#: Called with Σ gᵢ [groups, out, in] of consecutive groups, and the number of the first. It may overwrite them.
Consumer = Callable[[Tensor, int], None]

#: Called with the tiling and the sums of tiles (`layerlens_core.profiling.fused.totals`), to make norms of later.
Defer = Callable[["Tiling", Tensor], None]

#: What it costs to write an entry of a gradient and read it again, in multiplications: memory is slower than matmul.
TRAFFIC = {"cpu": 40, "cuda": 350}
#: With kernels, how many times longer it takes to find ‖gᵢ‖² along with their sum, than that alone, and how many
#: times longer a multiplication takes in a Gram matrix than in a gradient; measured on an H200.
BOTH, GRAM = 1.2, 1.5
#: Entries of gradients that are held at once, unless one group has more.
HELD = {"cpu": 2**22, "cuda": 2**27}
_NARROW = (torch.bfloat16, torch.float16)


@frozen(kw_only=True)
class Wanted:
    """What is wanted of a module: ‖gᵢ‖², ‖Σ gᵢ‖² of every group, Σ gᵢ of every group."""

    norms: bool
    group_norms: bool
    group_sums: bool

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that give all of it."""
        if not self.norms:
            return ("direct",)
        if self.group_sums:
            return ("direct", "mixed")
        return ("group-gram", "direct", "mixed") if self.group_norms else ("sample-gram", "direct")


@define(eq=False)
class Rows:
    """Inputs or output gradients [samples, T, features] of consecutive whole groups, and their Gram matrices.

    Modules that share an input share its `Rows`, and so its Gram matrices, which are computed once.
    """

    rows: Tensor
    _grams: dict[tuple[int, int], Tensor] = field(factory=dict)
    _tiles: "dict[Tiling, Tensor]" = field(factory=dict)
    _wide: Tensor | None = None

    @property
    def wide(self) -> Tensor:
        """The rows, at least in float32."""
        if self._wide is None:
            self._wide = self.rows.to(torch.promote_types(self.rows.dtype, torch.float32))
        return self._wide

    @property
    def factor(self) -> Tensor:
        """The rows as `product` takes them: as they are where the device multiplies them so, else wide."""
        return self.rows if self.rows.is_cuda and self.rows.dtype in _NARROW else self.wide

    def gram(self, group: int, apart: int) -> Tensor:
        """[groups, group − apart, T, T]: of samples i and i + apart of every group."""
        if (group, apart) not in self._grams:
            grouped = by_group(self.factor, group)
            left, right = grouped[:, : group - apart], grouped[:, apart:]
            found = product(left.flatten(0, 1), right.flatten(0, 1).mT)
            self._grams[group, apart] = found.view(len(grouped), group - apart, *found.shape[1:])
        return self._grams[group, apart]

    def tiles(self, tiling: "Tiling") -> Tensor:
        """Tiles of the Gram matrices (`layerlens_core.profiling.fused.gram_tiles`)."""
        from layerlens_core.profiling.fused import gram_tiles

        if tiling not in self._tiles:
            self._tiles[tiling] = gram_tiles(self.rows, tiling)
        return self._tiles[tiling]


@frozen(kw_only=True)
class Found:
    """What was found of a module, float64 on the device; None for what was not wanted.

    norms: ‖gᵢ‖² [samples]. group_norms: ‖Σ gᵢ‖² [groups]. weighted: Σ |W ⊙ Σ gᵢ| [groups].
    """

    norms: Tensor | None = None
    group_norms: Tensor | None = None
    weighted: Tensor | None = None


def cheapest(
    wanted: Wanted, *, group: int, tokens: int, inputs: int, outputs: int, sharers: int = 1,
    device: str = "cpu", fused: bool = False,
) -> Route:  # fmt: skip
    """The route with the least work a sample, by shapes alone. sharers: modules that share the inputs.

    fused: half of a symmetric Gram matrix will do, and gradients are not written.
    """
    traffic = TRAFFIC.get(device, TRAFFIC["cuda"])
    gram = tokens**2 * (inputs / sharers + outputs)
    multiplied, entries = tokens * inputs * outputs, inputs * outputs
    work: dict[Route, float] = {
        "sample-gram": gram,
        "group-gram": gram * (group + 1) / 2,
        "direct": multiplied + traffic * (entries if wanted.norms else entries / group),
        "mixed": gram + multiplied + traffic * entries / group,
    }
    if fused:
        grouped = wanted.group_norms or wanted.group_sums
        half = GRAM * gram / 2
        work = {
            "sample-gram": half,
            "group-gram": half * group,
            "direct": multiplied * (BOTH if wanted.norms and grouped else 1.0),
            "mixed": half + multiplied,
        }
    return min(wanted.routes, key=work.__getitem__)


def reduce(
    inputs: Rows,
    gradients: Rows,
    *,
    group: int,
    wanted: Wanted,
    route: Route,
    weight: Tensor | None = None,
    consume: Consumer | None = None,
    defer: Defer | None = None,
) -> Found:
    """What is wanted of the samples, which are whole groups.

    weight: W [out, in], for Σ |W ⊙ Σ gᵢ|. consume: gets the sums of groups. Both go with ``group_sums``.
    defer: gets sums of tiles where these are what norms come from, which are then not computed here.
    Raises `ValueError` for a route that does not give all that is wanted.
    """
    if route not in wanted.routes:
        raise ValueError(f"the route {route} does not give {wanted}; use one of {', '.join(wanted.routes)}")
    fused = fusible(inputs.rows, gradients.rows)
    norms = group_norms = weighted = None
    if route in ("sample-gram", "group-gram", "mixed") and wanted.norms:
        if fused:
            from layerlens_core.profiling.fused import Tiling, inner_products, totals

            samples, tokens = inputs.rows.shape[:2]
            unit = group if route == "group-gram" else 1
            tiling = Tiling.of(unit, tokens, samples // unit, inputs.rows.device)
            found = inner_products(inputs.tiles(tiling), gradients.rows, tiling)
            if defer is not None:
                defer(tiling, found)
            else:
                norms, group_norms = totals(found, tiling)
        else:
            norms, group_norms = _inner(inputs, gradients, group, together=route == "group-gram")
        if route != "mixed":
            return Found(norms=norms, group_norms=group_norms if route == "group-gram" else None)
    singly = wanted.norms and route == "direct"
    if fused and consume is None:
        from layerlens_core.profiling.fused import sums as fused_sums

        grouped = wanted.group_norms or weight is not None
        if singly:
            norms, group_norms, weighted = fused_sums(inputs.rows, gradients.rows, weight, group if grouped else 1)
        elif grouped:
            x, d = (by_group(part.rows, group).flatten(1, 2) for part in (inputs, gradients))
            _, group_norms, weighted = fused_sums(x, d, weight)
        return Found(norms=norms, group_norms=group_norms if wanted.group_norms else None, weighted=weighted)
    singles, squares, sizes = [], [], []
    x, d = (by_group(part.factor, group) for part in (inputs, gradients))
    matrix = x.shape[-1] * d.shape[-1]
    step = max(1, HELD.get(x.device.type, HELD["cuda"]) // (matrix * (group if singly else 1)))
    for start in range(0, len(x), step):
        few = slice(start, start + step)
        if singly:
            per_sample = product(d[few].flatten(0, 1).mT, x[few].flatten(0, 1))
            singles.append(squared_norms(per_sample))
            if consume is None and weight is None and not wanted.group_norms:
                continue
            sums = per_sample if group == 1 else by_group(per_sample, group).sum(dim=1)
        else:
            sums = product(d[few].flatten(1, 2).mT, x[few].flatten(1, 2))
        if wanted.group_norms:
            squares.append(squared_norms(sums))
        if consume is not None:
            consume(sums, start)
        if weight is not None:
            products = sums.mul_(weight.to(sums.dtype))
            sizes.append(torch.linalg.vector_norm(products, ord=1, dim=-1).sum(dim=-1, dtype=torch.float64))
    return Found(
        norms=torch.cat(singles) if singly else norms,
        group_norms=torch.cat(squares) if wanted.group_norms else None,
        weighted=torch.cat(sizes) if weight is not None else None,
    )


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product, batched or not, in float32 where the operands are narrower (on a CUDA device)."""
    if left.dtype in _NARROW:
        multiply = torch.bmm if left.dim() == 3 else torch.mm
        return multiply(left, right, out_dtype=torch.float32)
    return left @ right


def fusible(inputs: Tensor, gradients: Tensor) -> bool:
    """Whether `layerlens_core.profiling.fused` can do it."""
    narrow = inputs.dtype in _NARROW and gradients.dtype == inputs.dtype
    return narrow and inputs.is_cuda and gradients.device == inputs.device and _triton()


@cache
def _triton() -> bool:
    return find_spec("triton") is not None


def by_group(tensor: Tensor, group: int) -> Tensor:
    """[samples, …] as [groups, group, …]."""
    return tensor.view(-1, group, *tensor.shape[1:])


def squared_norms(matrices: Tensor) -> Tensor:
    """Squared Frobenius norms [...] in float64 of matrices [..., out, in].

    Norms of rows are found in the matrices' own precision and in one pass over memory, and their squares added in
    float64: one float32 sum over a large matrix loses three digits.
    """
    rows: Tensor = torch.linalg.vector_norm(matrices, dim=-1)
    return rows.double().square().sum(dim=-1)


def _inner(inputs: Rows, gradients: Rows, group: int, *, together: bool) -> tuple[Tensor, Tensor | None]:
    """‖gᵢ‖² [samples], and where asked for ‖Σ gᵢ‖² [groups], by whole Gram matrices."""

    def between(apart: int) -> Tensor:
        entries = gradients.gram(group, apart) * inputs.gram(group, apart)
        return entries.sum(dim=-1).sum(dim=-1, dtype=torch.float64)

    norms = between(0)
    if not together:
        return norms.flatten(), None
    group_norms = norms.sum(dim=1)
    for apart in range(1, group):
        group_norms += 2 * between(apart).sum(dim=1)
    return norms.flatten(), group_norms
