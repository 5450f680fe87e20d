"""Leading singular values and vectors of a module's mean gradient, gathered as sums over tokens.

The mean gradient G [out, in] of a large module is never formed. Every batch gives inputs X [tokens, in] and output
gradients D [tokens, out], its share of G is Dᵀ X, and all that is kept are sketches of the sum, linear in it:

    Y = G Ω    = Σ Dᵀ (X Ω)      [out, k]     Ω [in, k], Ψ [out, l] and Θ [out, 16] have independent
    Z = Ψᵀ G   = Σ (D Ψ)ᵀ X      [l, in]      standard normal entries and stay the same for the whole pass
    H = Θᵀ G   = Σ (D Θ)ᵀ X      [16, in]

With Q = orth(Y), G ≈ Q (ΨᵀQ)⁺ Z, whose singular value decomposition is small: Tropp, Yurtsever, Udell and Cevher,
"Practical sketching algorithms for low-rank matrix approximation" (2017), algorithms 4 and 7, with k = rank + 32 and
l = 2k + 8. The right singular vectors are those of (ΨᵀQ)⁺ Z, and the left ones Q times its left ones. H takes no part
in that, so it says without bias how much of G lies outside what was found (the same authors, "Streaming low-rank matrix
approximation with an application to scientific simulation", 2019, section 6).

Modules for which Y, Z and H together have at least half as many entries as G keep G itself, and are decomposed in full.
Where a metric forms gradients anyway, modules keep G from a quarter on: adding G up is then one pass over it, while
sketches of modules of this size take about as many multiplications as G does.

Accuracy with rank 64 was measured on gradients of a pretrained Llama (eight modules of 384 × 384 and 384 × 1,024, 32
samples of GSM8K, five seeds). Their 64 leading values are 48 to 85 % of the sum of all. Of the share of ‖G‖²_F that the
best r directions hold, the r leading ones that are found hold at least (in the median) 0.98 (1.00) for r = 1, 0.95
(0.98) for 8, 0.93 (0.96) for 16 and 0.93 (0.96) for 64. Those of the left side, of which Y has only k columns, hold
less: 0.98, 0.94, 0.91 and 0.89 of a module of 384 × 1,024 (three seeds), where the right ones hold 0.99, 0.97, 0.94 and
0.93. Singular values are off by 5 % in the median and 23 % at most; the sum of the rest is 0.98 to 1.20 of the true
one. Spectra that fall faster do better: the error is bounded by what lies outside.

All sums are linear, so workers' sums add up, and sums from a checkpoint can be continued.
"""

import hashlib
import math

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.gradients.gram import product
from layerlens_core.values.profile import LEADING

OVERSAMPLING = 32
HELD_OUT = 16


@frozen(kw_only=True, eq=False)
class Directions:
    """What was found of one module's mean gradient.

    values: the leading singular values [k], descending, float64.
    right: singular vectors [k, in], float32, orthonormal rows, of which the largest entry is positive.
    left: those of the outputs [k, out] likewise, with the signs that belong to them.
    rest: the sum of all other singular values; estimated, unless ``exact``.
    outside: ‖G‖²_F less what lies in the span of the right vectors.
    exact: whether G itself was decomposed.
    """

    values: Tensor
    right: Tensor
    left: Tensor
    rest: float
    outside: float
    exact: bool


@define(kw_only=True, eq=False)
class RangeFinder:
    """The sums of one module.

    name: the module's.
    inputs: width of the module's input.
    outputs: width of its output.
    rank: directions to find, at most.
    seed: with the module's name it draws Ω, Ψ and Θ.
    formed: whether a metric forms gradients anyway.
    sums: what was gathered, (G,) or (Y, Z with H below it); these add up over workers that use the same seed.
    """

    name: str
    inputs: int
    outputs: int
    rank: int = LEADING
    seed: int = 0
    formed: bool = False
    sums: tuple[Tensor, ...] = ()
    _tests: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    @property
    def columns(self) -> int:
        """k, the number of Ω's columns."""
        return self.rank + OVERSAMPLING

    @property
    def rows(self) -> int:
        """l, the number of Ψ's columns."""
        return 2 * self.columns + 8  # at least 2k + 1; a multiple of 8, which a GPU multiplies at full speed

    @property
    def exact(self) -> bool:
        """Whether G itself is kept, since its sketches would not be much smaller. It is then decomposed exactly."""
        sketches = self.columns * self.outputs + (self.rows + HELD_OUT) * self.inputs
        times = 4 if self.formed else 2
        return self.inputs * self.outputs <= times * sketches or min(self.inputs, self.outputs) <= self.rows

    def add(self, inputs: Tensor, gradients: Tensor) -> None:
        """Add Dᵀ X.

        Where X and D have 16 bits, XΩ, DΨ and DΘ are rounded to 16 bits too; sums over tokens are in float32.
        All memory is taken before anything is added: where it runs out, the sums are unchanged.

        inputs: X [..., in].
        gradients: of the outputs, D [..., out], in the dtype of X.
        """
        x, d = inputs.flatten(0, -2), gradients.flatten(0, -2)
        if self.exact:
            self._accumulate(product(d.T, x))
            return
        right, left = self._test_matrices(x)
        self._accumulate(product(d.T, product(x, right).to(x.dtype)), product(product(d, left).to(d.dtype).T, x))

    def total(self, like: Tensor) -> Tensor:
        """A matrix [out, in] to which gradients can be added, and which is then given to `add_gradient`.

        like: tells its dtype and device.
        """
        if self.exact and self.sums:
            return self.sums[0]
        return like.new_zeros(self.outputs, self.inputs)

    def add_gradient(self, gradient: Tensor) -> None:
        """Add a gradient [out, in] that was formed anyway, or what `total` gave once it is complete."""
        if self.exact:
            if not (self.sums and gradient is self.sums[0]):
                self._accumulate(gradient)
            return
        right, left = self._test_matrices(gradient)
        self._accumulate(gradient @ right, left.T @ gradient)

    def merge(self, other: "RangeFinder") -> None:
        """Add what another worker gathered with the same name, shape, rank and seed."""
        same = ("name", "inputs", "outputs", "rank", "seed", "formed")
        if any(getattr(self, key) != getattr(other, key) for key in same):
            raise ValueError(f"sketches of {self.name} and {other.name} do not add up: they were drawn differently")
        if other.sums:
            self._accumulate(*(s.to(self.sums[0].device) if self.sums else s.clone() for s in other.sums))

    def find(self, samples: int) -> Directions | None:
        """The leading values and vectors of the sum over ``samples``; None where nothing was added."""
        if not self.sums:
            return None
        if self.exact:
            return _of_matrix(self.sums[0].double() / samples, self.rank)
        y, below = (part.double() / samples for part in self.sums)
        z, held_out = below[: self.rows], below[self.rows :] / math.sqrt(HELD_OUT)
        psi = self._left(y)[:, : self.rows]
        basis = torch.linalg.qr(y)[0]
        orthogonal, triangular = torch.linalg.qr(psi.T @ basis)
        core = torch.linalg.solve_triangular(triangular, orthogonal.T @ z, upper=True)
        small, values, right = torch.linalg.svd(core, full_matrices=False)
        values = values[: self.rank]
        left, right = signed(small.T[: self.rank] @ basis.T, right[: self.rank])
        outside = float((held_out - held_out @ right.T @ right).square().sum())
        others = min(self.inputs, self.outputs) - self.rank
        return Directions(
            values=values,
            right=right.float(),
            left=left.float(),
            rest=sum_from_squares(outside, largest=float(values[-1]), count=others),
            outside=outside,
            exact=False,
        )

    def _test_matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Ω, and Ψ with Θ beside it."""
        if self._tests is None or (self._tests[0].device, self._tests[0].dtype) != (like.device, like.dtype):
            self._tests = (self._draw("right", self.inputs, self.columns, like), self._left(like))
        return self._tests

    def _accumulate(self, *parts: Tensor) -> None:
        if not self.sums:
            self.sums = parts
            return
        for total, part in zip(self.sums, parts, strict=True):
            total.add_(part)

    def _left(self, like: Tensor) -> Tensor:
        return self._draw("left", self.outputs, self.rows + HELD_OUT, like)

    def _draw(self, side: str, rows: int, columns: int, like: Tensor) -> Tensor:
        """A test matrix, drawn on the CPU in bfloat16, so that every device, dtype and worker gets the same."""
        digest = hashlib.sha256(f"{self.seed}/{side}/{self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randn(rows, columns, generator=generator).bfloat16().to(like.device, like.dtype)


def sum_from_squares(squares: float, *, largest: float, count: int) -> float:
    """An estimate of the sum of numbers ≥ 0 from the sum of their squares.

    The sum is at least squares / largest, where all that are not 0 are as large as the largest, and at most √(count ·
    squares), where all are equal. The estimate is the geometric mean of the two bounds; on gradients of a pretrained
    model, 64 leading values aside, it was 10 to 22 % below the true sum where both arguments were exact, with bounds a
    factor of 2 to 3.5 apart.

    squares: sum of the squares.
    largest: none of the numbers exceeds it.
    count: how many numbers there are.
    """
    upper = math.sqrt(count * squares)
    return min(math.sqrt(upper * squares / largest), upper) if largest > 0 else 0.0


def _of_matrix(matrix: Tensor, rank: int) -> Directions:
    columns, values, rows = torch.linalg.svd(matrix, full_matrices=False)
    left, right = signed(columns.T[:rank], rows[:rank])
    return Directions(
        values=values[:rank],
        right=right.float(),
        left=left.float(),
        rest=float(values[rank:].sum()),
        outside=float(values[rank:].square().sum()),
        exact=True,
    )


def signed(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors with the right one's largest entry positive, since only the sign of both together is arbitrary."""
    largest = right.gather(1, right.abs().argmax(dim=1, keepdim=True))
    return torch.where(largest < 0, -left, left), torch.where(largest < 0, -right, right)
