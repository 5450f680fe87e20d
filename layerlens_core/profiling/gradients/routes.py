"""Exact squared norms of per-sample and per-group gradients of a linear module, by several routes.

For sample i with inputs aᵢ [T, in] and output gradients bᵢ [T, out] the weight gradient is gᵢ = bᵢᵀ aᵢ. Wanted are some
of ‖gᵢ‖², ‖Σ gᵢ‖² over groups of consecutive samples, and Σ gᵢ itself. With Gram matrices,
⟨gᵢ, gⱼ⟩ = Σₜₛ (aᵢₜ·aⱼₛ)(bᵢₜ·bⱼₛ), and no [out, in] matrix is formed:

sample-gram  the T × T Gram matrices of each sample, of which half will do: ‖gᵢ‖².
group-gram   those, and the ones between samples of a group (whole ones): ‖gᵢ‖² and ‖Σ gᵢ‖².
direct       batched products gᵢ, a few rows of them at a time; where no ‖gᵢ‖² is wanted, Σ gᵢ of each group at once.
mixed        sample-gram for ‖gᵢ‖², and Σ gᵢ of each group at once.

Dropping the terms t ≠ s, a common approximation, is wrong.

16-bit operands are multiplied as they are and summed in float32, in which their products are exact: on a CUDA device by
`layerlens_core.profiling.gradients.triton` where Triton is installed, or else by matmuls that give float32. A CPU has
no such matmul, so there operands are widened first.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch
from attrs import evolve, frozen
from torch import Tensor

from layerlens_core.profiling.gradients.gram import NARROW, Rows, by_group, strip_width
from layerlens_core.profiling.gradients.materialised import Found, materialised
from layerlens_native import gradient_sums

if TYPE_CHECKING:
    from layerlens_core.profiling.gradients.triton import Tiling

Route = Literal["sample-gram", "group-gram", "direct", "mixed"]

#: Takes a tiling and its tiles' sums; `layerlens_core.profiling.gradients.triton.totals` makes squared norms of them.
Defer = Callable[["Tiling", Tensor], None]

#: Writing an entry of a gradient and reading it again takes as long as this many multiplications.
TRAFFIC = {"cpu": 25, "cuda": 350}
#: How many times longer a multiplication takes where a Gram matrix is computed in strips.
STRIPS = 1.2
#: With Triton's kernels: how many times longer it takes to find ‖gᵢ‖² and ‖Σ gᵢ‖² than ‖Σ gᵢ‖² alone; and how many
#: times longer a multiplication takes in a Gram matrix than in a gradient. Measured on an H200.
BOTH, GRAM = 1.2, 1.5

#: Compute capabilities of GPUs whose shared memory holds the kernels' tiles, 131 to 147 KB: A100, H100 and H200, B200.
ROOMY = {(8, 0), (9, 0), (10, 0), (10, 3)}


@frozen(kw_only=True)
class Wanted:
    """What is wanted of a module.

    sample_squared_norms: ‖gᵢ‖².
    group_sum_squared_norms: ‖Σ gᵢ‖² of every group.
    group_sums: Σ gᵢ of every group.
    """

    sample_squared_norms: bool
    group_sum_squared_norms: bool
    group_sums: bool

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that give all of it."""
        if not self.sample_squared_norms:
            return ("direct",)
        if self.group_sums:
            return ("direct", "mixed")
        return ("group-gram", "direct", "mixed") if self.group_sum_squared_norms else ("sample-gram", "direct")


@cache
def cheapest(
    wanted: Wanted, *, group_size: int, tokens: int, inputs: int, outputs: int, sharers: int = 1,
    device: str = "cpu", triton: bool = False,
) -> Route:  # fmt: skip
    """The route with the least work a sample, by shapes alone.

    wanted: what the route must give.
    group_size: samples in a group.
    tokens: of a sample.
    inputs: width of the module's input.
    outputs: width of its output.
    sharers: modules that share the inputs.
    device: type of device.
    triton: its kernels serve, for which half of a symmetric Gram matrix will do, and which write no gradients.
    """
    traffic = TRAFFIC.get(device, TRAFFIC["cuda"])
    gram = tokens**2 * (inputs / sharers + outputs)
    width = strip_width(device)
    part = gram * STRIPS * (tokens + width) / (2 * tokens) if tokens > width else gram
    multiplied, entries = tokens * inputs * outputs, inputs * outputs
    work: dict[Route, float] = {
        "sample-gram": part,
        "group-gram": part + gram * (group_size - 1) / 2,
        "direct": multiplied + traffic * (entries if wanted.sample_squared_norms else entries / group_size),
        "mixed": part + multiplied + traffic * entries / group_size,
    }
    if triton:
        grouped = wanted.group_sum_squared_norms or wanted.group_sums
        half = GRAM * gram / 2
        work = {
            "sample-gram": half,
            "group-gram": half * group_size,
            "direct": multiplied * (BOTH if wanted.sample_squared_norms and grouped else 1.0),
            "mixed": half + multiplied,
        }
    return min(wanted.routes, key=work.__getitem__)


def reduce(
    inputs: Rows,
    gradients: Rows,
    *,
    group_size: int,
    wanted: Wanted,
    route: Route,
    weight: Tensor | None = None,
    total: Tensor | None = None,
    defer: Defer | None = None,
) -> Found:
    """What is wanted of the samples, which are whole groups.

    inputs: of the module.
    gradients: of its outputs.
    group_size: samples in a group.
    wanted: what the route must give.
    route: how to find it.
    weight: W [out, in], for Σ |W ⊙ Σ gᵢ|; needs a route that forms gradients.
    total: [out, in], to which Σ gᵢ over all samples is added; it is unchanged where memory runs out. Needs such a route
        too.
    defer: takes sums of tiles where squared norms come from these; the squared norms are then not computed here.

    Raises `ValueError` for a route that does not give all that is wanted.
    """
    if route not in wanted.routes:
        raise ValueError(f"the route {route} does not give {wanted}; use one of {', '.join(wanted.routes)}")
    found = Found()
    if route != "direct" and wanted.sample_squared_norms:
        found = _by_gram(inputs, gradients, group_size, route, defer)
        if route != "mixed":
            return found
    singly = wanted.sample_squared_norms and route == "direct"
    if by_triton(inputs.rows, gradients.rows) and total is None:
        formed = _by_kernel(inputs, gradients, group_size, singly, wanted, weight)
    else:
        formed = materialised(
            inputs.factor, gradients.factor, group_size=group_size, singly=singly,
            grouped=wanted.group_sum_squared_norms, weight=weight, total=total,
        )  # fmt: skip
    return formed if singly else evolve(formed, sample_squared_norms=found.sample_squared_norms)


def by_triton(inputs: Tensor, gradients: Tensor) -> bool:
    """Whether the kernels of `layerlens_core.profiling.gradients.triton` serve."""
    if type(inputs) is not Tensor or type(gradients) is not Tensor:
        return False  # kernels read what lies at an address, which only plain tensors have
    narrow = inputs.dtype in NARROW and gradients.dtype == inputs.dtype
    return narrow and inputs.is_cuda and gradients.device == inputs.device and _triton() and _is_roomy(inputs.device)


@cache
def _is_roomy(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) in ROOMY


@cache
def _triton() -> bool:
    return find_spec("triton") is not None


def _by_gram(inputs: Rows, gradients: Rows, group_size: int, route: Route, defer: Defer | None) -> Found:
    """‖gᵢ‖², and ‖Σ gᵢ‖² on the route that gives them, by Gram matrices; nothing where sums of tiles are deferred."""
    grouped = route == "group-gram"
    if not by_triton(inputs.rows, gradients.rows):
        return _inner(inputs, gradients, group_size, grouped=grouped)
    from layerlens_core.profiling.gradients.triton import Tiling, inner_products, totals

    samples, tokens = inputs.rows.shape[:2]
    tiled = group_size if grouped else 1
    tiling = Tiling.of(tiled, tokens, samples // tiled, inputs.rows.device)
    of_tiles = inner_products(inputs.tiles(tiling), gradients.rows, tiling)
    if defer is not None:
        defer(tiling, of_tiles)
        return Found()
    of_samples, of_groups = totals(of_tiles, tiling)
    return Found(sample_squared_norms=of_samples, group_sum_squared_norms=of_groups if grouped else None)


def _by_kernel(
    inputs: Rows, gradients: Rows, group_size: int, singly: bool, wanted: Wanted, weight: Tensor | None
) -> Found:
    """Sums over gradients that are never written."""
    from layerlens_core.profiling.gradients.triton import sums

    of_samples = of_groups = weighted = None
    grouped = wanted.group_sum_squared_norms or weight is not None
    if singly:
        of_samples, of_groups, weighted = sums(inputs.rows, gradients.rows, weight, group_size if grouped else 1)
    elif grouped:
        x, d = (by_group(part.rows, group_size).flatten(1, 2) for part in (inputs, gradients))
        _, of_groups, weighted = sums(x, d, weight)
    return Found(
        sample_squared_norms=of_samples,
        group_sum_squared_norms=of_groups if wanted.group_sum_squared_norms else None,
        weighted_sums=weighted,
    )


def _inner(inputs: Rows, gradients: Rows, group_size: int, *, grouped: bool) -> Found:
    """‖gᵢ‖² [samples], and where asked for ‖Σ gᵢ‖² [groups], by Gram matrices that are multiplied as they are made."""
    of_samples = torch.zeros(len(inputs.rows), dtype=torch.float64, device=inputs.rows.device)
    for first in inputs.strips:
        left, right = gradients.strip(first, keep=False), inputs.strip(first, keep=True)
        of_samples += gradient_sums.inner(left, right, once=left.shape[2])  # the square on the diagonal
    if not grouped:
        return Found(sample_squared_norms=of_samples)
    of_groups = by_group(of_samples, group_size).sum(dim=1)
    for apart in range(1, group_size):
        left, right = gradients.gram(group_size, apart, keep=False), inputs.gram(group_size, apart, keep=True)
        of_groups += 2 * gradient_sums.inner(left, right).view(len(of_groups), -1).sum(dim=1)
    return Found(sample_squared_norms=of_samples, group_sum_squared_norms=of_groups)
