"""Exact norms of per-sample and per-group gradients of a linear module, by several routes.

For sample i with inputs aᵢ [T, in] and output gradients bᵢ [T, out] the weight gradient is gᵢ = bᵢᵀ aᵢ. Wanted are some
of ‖gᵢ‖², ‖Σ gᵢ‖² over groups of consecutive samples, and Σ gᵢ itself. With Gram matrices,
⟨gᵢ, gⱼ⟩ = Σₜₛ (aᵢₜ·aⱼₛ)(bᵢₜ·bⱼₛ), and no [out, in] matrix is formed:

sample-gram  the T × T Gram matrices of each sample, of which half will do: ‖gᵢ‖².
group-gram   those, and the ones between samples of a group (whole ones): ‖gᵢ‖² and ‖Σ gᵢ‖².
direct       batched products gᵢ, a few rows of them at a time; where no ‖gᵢ‖² is wanted, Σ gᵢ of each group at once.
mixed        sample-gram for ‖gᵢ‖², and Σ gᵢ of each group at once.

Dropping the terms t ≠ s, a common approximation, is wrong.

16-bit operands are multiplied as they are and summed in float32, in which their products are exact: on a CUDA device
by `layerlens_core.profiling.gradients.triton` where Triton is installed, or else by matmuls that give float32. A CPU has no such
matmul, so operands are widened first.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch
from attrs import evolve, frozen
from torch import Tensor

from layerlens_core.profiling.gradients.gram import NARROW, Rows, by_group, strip_width
from layerlens_core.profiling.gradients.materialised import Found, formed
from layerlens_native import gradient_sums

if TYPE_CHECKING:
    from layerlens_core.profiling.gradients.triton import Tiling

Route = Literal["sample-gram", "group-gram", "direct", "mixed"]

#: Called with the tiling and the sums of tiles (`layerlens_core.profiling.gradients.triton.totals`), to make norms of later.
Defer = Callable[["Tiling", Tensor], None]

#: What it costs to write an entry of a gradient and read it again, in multiplications: memory is slower than matmul.
TRAFFIC = {"cpu": 25, "cuda": 350}
#: How many times longer a multiplication for a part of a Gram matrix takes.
STRIPS = 1.2
#: With kernels, how many times longer it takes to find ‖gᵢ‖² along with their sum, than that alone, and how many
#: times longer a multiplication takes in a Gram matrix than in a gradient; measured on an H200.
BOTH, GRAM = 1.2, 1.5

#: Compute capabilities of GPUs whose shared memory holds the kernels' tiles, 131 to 147 KB: A100, H100 and H200, B200.
ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}


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


@cache
def cheapest(
    wanted: Wanted, *, group: int, tokens: int, inputs: int, outputs: int, sharers: int = 1,
    device: str = "cpu", fused: bool = False,
) -> Route:  # fmt: skip
    """The route with the least work a sample, by shapes alone. sharers: modules that share the inputs.

    fused: half of a symmetric Gram matrix will do, and gradients are not written.
    """
    traffic = TRAFFIC.get(device, TRAFFIC["cuda"])
    gram = tokens**2 * (inputs / sharers + outputs)
    width = strip_width(device)
    part = gram * STRIPS * (tokens + width) / (2 * tokens) if tokens > width else gram
    multiplied, entries = tokens * inputs * outputs, inputs * outputs
    work: dict[Route, float] = {
        "sample-gram": part,
        "group-gram": part + gram * (group - 1) / 2,
        "direct": multiplied + traffic * (entries if wanted.norms else entries / group),
        "mixed": part + multiplied + traffic * entries / group,
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
    total: Tensor | None = None,
    defer: Defer | None = None,
) -> Found:
    """What is wanted of the samples, which are whole groups.

    weight: W [out, in], for Σ |W ⊙ Σ gᵢ|. total: Σ gᵢ over all samples is added to it [out, in]; to nothing of it
    where memory runs out. Both go with the routes that form gradients.
    defer: gets sums of tiles where these are what norms come from, which are then not computed here.
    Raises `ValueError` for a route that does not give all that is wanted.
    """
    if route not in wanted.routes:
        raise ValueError(f"the route {route} does not give {wanted}; use one of {', '.join(wanted.routes)}")
    fused = fusible(inputs.rows, gradients.rows)
    norms = group_norms = weighted = None
    if route in ("sample-gram", "group-gram", "mixed") and wanted.norms:
        if fused:
            from layerlens_core.profiling.gradients.triton import Tiling, inner_products, totals

            samples, tokens = inputs.rows.shape[:2]
            unit = group if route == "group-gram" else 1
            tiling = Tiling.of(unit, tokens, samples // unit, inputs.rows.device)
            of_tiles = inner_products(inputs.tiles(tiling), gradients.rows, tiling)
            if defer is not None:
                defer(tiling, of_tiles)
            else:
                norms, group_norms = totals(of_tiles, tiling)
        else:
            norms, group_norms = _inner(inputs, gradients, group, together=route == "group-gram")
        if route != "mixed":
            return Found(norms=norms, group_norms=group_norms if route == "group-gram" else None)
    singly = wanted.norms and route == "direct"
    if fused and total is None:
        from layerlens_core.profiling.gradients.triton import sums as fused_sums

        grouped = wanted.group_norms or weight is not None
        if singly:
            norms, group_norms, weighted = fused_sums(inputs.rows, gradients.rows, weight, group if grouped else 1)
        elif grouped:
            x, d = (by_group(part.rows, group).flatten(1, 2) for part in (inputs, gradients))
            _, group_norms, weighted = fused_sums(x, d, weight)
        return Found(norms=norms, group_norms=group_norms if wanted.group_norms else None, weighted=weighted)
    found = formed(
        inputs.factor, gradients.factor, group=group, singly=singly, together=wanted.group_norms, weight=weight,
        total=total,
    )  # fmt: skip
    return found if singly else evolve(found, norms=norms)


def fusible(inputs: Tensor, gradients: Tensor) -> bool:
    """Whether `layerlens_core.profiling.gradients.triton` can do it."""
    narrow = inputs.dtype in NARROW and gradients.dtype == inputs.dtype
    return narrow and inputs.is_cuda and gradients.device == inputs.device and _triton() and _is_roomy(inputs.device)


@cache
def _is_roomy(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) in ROOMY


@cache
def _triton() -> bool:
    return find_spec("triton") is not None


def _inner(inputs: Rows, gradients: Rows, group: int, *, together: bool) -> tuple[Tensor, Tensor | None]:
    """‖gᵢ‖² [samples], and where asked for ‖Σ gᵢ‖² [groups], by Gram matrices."""
    norms = torch.zeros(len(inputs.rows), dtype=torch.float64, device=inputs.rows.device)
    for first in inputs.strips:
        left, right = gradients.strip(first, keep=False), inputs.strip(first, keep=True)
        norms += gradient_sums.inner(left, right, once=left.shape[2])  # the square on the diagonal
    if not together:
        return norms, None
    group_norms = by_group(norms, group).sum(dim=1)
    for apart in range(1, group):
        left, right = gradients.gram(group, apart, keep=False), inputs.gram(group, apart, keep=True)
        group_norms += 2 * gradient_sums.inner(left, right).view(len(group_norms), -1).sum(dim=1)
    return norms, group_norms
