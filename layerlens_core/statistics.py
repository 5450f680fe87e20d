"""What the profiling engine measures on one module: mergeable sums and their counts, never tensors.

Notation: gᵢ = ∂ℓᵢ/∂W is the gradient of sample i's own mean loss with respect to the module's weight W,
ḡ the mean of gᵢ over a *group* of consecutive samples whose size is declared and recorded.
"""

from attrs import frozen

#: Statistics that a metric may ask for, with what they are.
STATISTICS = {
    "gradient_norms": "Σ‖gᵢ‖², Σ‖gᵢ‖⁴, Σ‖ḡ‖² over groups",
    "weight_gradient": "Σ over groups of mean |W ⊙ ḡ|",
    "spectrum": "leading singular values of the mean gradient",
}


@frozen(kw_only=True)
class ModuleStatistics:
    """Sums over the calibration samples for one module.

    module: qualified name.
    weights: number of elements of W.
    samples, groups, group_size: counts; a last group that is not full is not counted.
    sum_squared_norm: Σᵢ ‖gᵢ‖²_F, in (nats / weight)².
    sum_fourth_power: Σᵢ ‖gᵢ‖⁴_F.
    sum_group_squared_norm: Σ over full groups of ‖ḡ‖²_F.
    sum_grouped_squared_norm: Σᵢ ‖gᵢ‖²_F over the samples of full groups.
    sum_weight_gradient: Σ over full groups of mean |W ⊙ ḡ|, or None where it was not gathered.
    spectrum: the leading singular values of the mean gradient over all samples, descending, and last the sum of
        those left out; empty where it was not gathered.
    """

    module: str
    weights: int
    samples: int
    groups: int
    group_size: int
    sum_squared_norm: float
    sum_fourth_power: float
    sum_group_squared_norm: float
    sum_grouped_squared_norm: float
    sum_weight_gradient: float | None = None
    spectrum: tuple[float, ...] = ()

    @property
    def fisher(self) -> float:
        """Trace of the empirical Fisher information of W: mean over samples of ‖gᵢ‖²_F."""
        return self.sum_squared_norm / self.samples

    @property
    def fisher_standard_error(self) -> float:
        """Standard error of `fisher` over the calibration samples."""
        variance = max(self.sum_fourth_power / self.samples - self.fisher**2, 0.0)
        return float((variance / max(self.samples - 1, 1)) ** 0.5)

    @property
    def gradient_energy(self) -> float:
        """Mean over groups of ‖ḡ‖²_F. Only energies of equal ``group_size`` compare."""
        return self.sum_group_squared_norm / self.groups

    @property
    def mean_gradient_squared_norm(self) -> float:
        """Unbiased estimate of ‖E g‖²_F from the pairs within groups: mean of ⟨gᵢ, gⱼ⟩ over i ≠ j.

        Noisy at few samples, and negative where the noise outweighs the signal.
        """
        pairs = self.groups * self.group_size * (self.group_size - 1)
        if pairs == 0:
            raise ValueError("‖E g‖² needs groups of at least two samples")
        return (self.group_size**2 * self.sum_group_squared_norm - self.sum_grouped_squared_norm) / pairs

    @property
    def weight_gradient(self) -> float:
        """Mean over groups of mean |W ⊙ ḡ|, in nats a weight (GoRA's importance, arXiv 2502.12171)."""
        if self.sum_weight_gradient is None:
            raise ValueError("the statistic 'weight_gradient' was not gathered")
        return self.sum_weight_gradient / self.groups
