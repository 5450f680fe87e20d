"""What the profiling engine measures on one module: mergeable sums and their counts, never tensors.

Notation: gᵢ = ∂ℓᵢ/∂W is the gradient of sample i's own mean loss with respect to the module's weight W,
ḡ the mean of gᵢ over a *group* of consecutive samples whose size is declared and recorded.
"""

import math
from collections.abc import Collection

from attrs import frozen

from layerlens_core.errors import DataError

#: Statistics that a metric may ask for, with what they are. Only what some metric asks for is gathered.
STATISTICS = {
    "sample_norms": "Σ‖gᵢ‖², Σ‖gᵢ‖⁴",
    "gradient_norms": "Σ‖gᵢ‖², Σ‖gᵢ‖⁴, Σ‖ḡ‖², Σ‖ḡ‖⁴ over groups",
    "weight_gradient": "Σ over groups of mean |W ⊙ ḡ| and of its square",
    "spectrum": "leading singular values of the mean gradient",
}

#: Those that random projections estimate (`layerlens_core.profiling.gradients.sketches`).
SKETCHED = frozenset({"sample_norms", "gradient_norms"})

#: By field of `ModuleStatistics`, the statistics any one of which gathers it. Fields that are always there are left
#: out.
FIELDS = {
    "sum_squared_norm": frozenset({"sample_norms", "gradient_norms"}),
    "sum_fourth_power": frozenset({"sample_norms", "gradient_norms"}),
    "sum_grouped_squared_norm": frozenset({"sample_norms", "gradient_norms"}),
    "squared_norm_error": frozenset({"sample_norms", "gradient_norms"}),
    "sum_group_mean_squared_norm": frozenset({"gradient_norms"}),
    "sum_group_mean_fourth_power": frozenset({"gradient_norms"}),
    "group_mean_squared_norm_error": frozenset({"gradient_norms"}),
    "sum_weight_gradient": frozenset({"weight_gradient"}),
    "sum_squared_weight_gradient": frozenset({"weight_gradient"}),
    "spectrum": frozenset({"spectrum"}),
}


def check_sketched(needs: Collection[str], *, directions: bool = False) -> None:
    """Raises `DataError` where sketches do not give everything that is asked for.

    needs: statistics.
    directions: whether leading singular vectors are asked for.
    """
    if directions or not SKETCHED.issuperset(needs):
        asked = sorted({*needs, *(["directions"] if directions else [])})
        raise DataError(
            f"sketches give {' and '.join(sorted(SKETCHED))} alone, but asked for were {', '.join(asked)}; "
            "use --scores exact, or metrics such as fisher"
        )


@frozen
class SketchError:
    """What random projections add to a sum.

    variance: of the sum.
    freedom: degrees of freedom of its estimate.
    """

    variance: float
    freedom: float

    def interval(self, value: float) -> tuple[float, float]:
        """Bounds between which the exact sum lies with 95 % confidence, from its sketched value ≥ 0.

        Student's t on the logarithm, since sketched squares are skewed. It covers 94 to 95 % where there are several
        groups or the gradients are of rank four and more, and 93 % in the worst case, one group of rank one.
        It says nothing of the error that comes from having few samples.
        """
        if self.variance <= 0 or value <= 0:
            return value, value
        quantile = _student(self.freedom)
        factor = math.exp(quantile * math.sqrt(self.variance) / value)
        return value / factor, value * factor


@frozen(kw_only=True)
class ModuleStatistics:
    """Sums over the samples for one module; None for what no metric asked for.

    module: qualified name.
    weights: number of elements of W.
    samples: how many.
    groups: how many full ones; a last group that is not full is not counted.
    group_size: samples in a group.
    sum_squared_norm: Σᵢ ‖gᵢ‖²_F, in (nats / weight)².
    sum_fourth_power: Σᵢ ‖gᵢ‖⁴_F.
    sum_group_mean_squared_norm: Σ over full groups of ‖ḡ‖²_F.
    sum_group_mean_fourth_power: Σ over full groups of ‖ḡ‖⁴_F.
    sum_grouped_squared_norm: Σᵢ ‖gᵢ‖²_F over the samples of full groups.
    sum_weight_gradient: Σ over full groups of mean |W ⊙ ḡ|.
    sum_squared_weight_gradient: Σ over full groups of (mean |W ⊙ ḡ|)².
    squared_norm_error: of `sum_squared_norm` where it is sketched, that is, an unbiased estimate; the fourth powers
        then contain this error too. None where it is exact.
    group_mean_squared_norm_error: of `sum_group_mean_squared_norm`, likewise.
    spectrum: the leading singular values of the mean gradient over all samples, descending, and last the sum of those
        left out, which is an estimate for large modules; empty where it was not gathered.
    """

    module: str
    weights: int
    samples: int
    groups: int
    group_size: int
    sum_squared_norm: float | None = None
    sum_fourth_power: float | None = None
    sum_group_mean_squared_norm: float | None = None
    sum_group_mean_fourth_power: float | None = None
    sum_grouped_squared_norm: float | None = None
    sum_weight_gradient: float | None = None
    sum_squared_weight_gradient: float | None = None
    squared_norm_error: SketchError | None = None
    group_mean_squared_norm_error: SketchError | None = None
    spectrum: tuple[float, ...] = ()

    @property
    def fisher(self) -> float:
        """Trace of the empirical Fisher information of W: mean over samples of ‖gᵢ‖²_F."""
        return _gathered(self.sum_squared_norm, "sample_norms") / self.samples

    @property
    def fisher_interval(self) -> tuple[float, float]:
        """Where exact arithmetic on the same samples would put `fisher`: `SketchError.interval`."""
        return _interval(self.fisher, self.squared_norm_error, self.samples)

    @property
    def gradient_energy_interval(self) -> tuple[float, float]:
        """Where exact arithmetic on the same samples would put `gradient_energy`: `SketchError.interval`."""
        return _interval(self.gradient_energy, self.group_mean_squared_norm_error, self.groups)

    @property
    def fisher_standard_error(self) -> float:
        """Standard error of `fisher` over the samples."""
        return _standard_error(self.fisher, _gathered(self.sum_fourth_power, "sample_norms"), self.samples)

    @property
    def gradient_energy(self) -> float:
        """Mean over groups of ‖ḡ‖²_F. Only energies of equal ``group_size`` compare."""
        return _gathered(self.sum_group_mean_squared_norm, "gradient_norms") / self.groups

    @property
    def gradient_energy_standard_error(self) -> float:
        """Standard error of `gradient_energy` over the groups."""
        fourth = _gathered(self.sum_group_mean_fourth_power, "gradient_norms")
        return _standard_error(self.gradient_energy, fourth, self.groups)

    @property
    def mean_gradient_squared_norm(self) -> float:
        """Unbiased estimate of ‖E g‖²_F from the pairs within groups: mean of ⟨gᵢ, gⱼ⟩ over i ≠ j.

        Noisy at few samples, and negative where the noise outweighs the signal.
        """
        pairs = self.groups * self.group_size * (self.group_size - 1)
        if pairs == 0:
            raise ValueError("‖E g‖² needs groups of at least two samples")
        of_groups = _gathered(self.sum_group_mean_squared_norm, "gradient_norms")
        singly = _gathered(self.sum_grouped_squared_norm, "gradient_norms")
        return (self.group_size**2 * of_groups - singly) / pairs

    @property
    def weight_gradient(self) -> float:
        """Mean over groups of mean |W ⊙ ḡ|, in nats a weight (GoRA's importance, arXiv 2502.12171)."""
        return _gathered(self.sum_weight_gradient, "weight_gradient") / self.groups

    @property
    def weight_gradient_standard_error(self) -> float:
        """Standard error of `weight_gradient` over the groups."""
        squares = _gathered(self.sum_squared_weight_gradient, "weight_gradient")
        return _standard_error(self.weight_gradient, squares, self.groups)


def _interval(mean: float, error: SketchError | None, count: int) -> tuple[float, float]:
    if error is None:
        return mean, mean
    low, high = error.interval(mean * count)
    return low / count, high / count


def _student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, by its expansion in 1 / freedom; 1 % off at 4 degrees, 0.01 % at 15."""
    z = 1.959964
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _gathered(value: float | None, statistic: str) -> float:
    if value is None:
        raise ValueError(f"the statistic {statistic!r} was not gathered; a metric must declare that it needs it")
    return value


def _standard_error(mean: float, squares: float, count: int) -> float:
    """Of a mean, from the sum of squares of its ``count`` terms."""
    variance = max(squares / count - mean * mean, 0.0)
    return float((variance / max(count - 1, 1)) ** 0.5)
