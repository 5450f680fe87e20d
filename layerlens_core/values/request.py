"""What is asked of an allocation: how to score, what to choose from, and what it may cost."""

from collections.abc import Mapping

from attrs import field, frozen

from layerlens_core.values.costs import Training
from layerlens_core.values.gains import GainCurve
from layerlens_core.values.scores import Granularity, Normalizer

#: LoRA's α/r, constant over modules so that servers with one global scale stay right.
DEFAULT_SCALE = 2


@frozen(kw_only=True)
class Request:
    """Everything but the profile that a plan follows from; the plan holds it, as it was resolved.

    strategy: name of a provider.
    budget: hard bounds, as `Budget.parse` reads them.
    weights: one for each profiled metric; None weighs them alike.
    normalizer: makes raw scores comparable (`layerlens_core.allocation.utilities.normalize`).
    aggregator: name of a provider.
    methods: names of the methods to choose from; None takes those that `apply` can build.
    options: of the strategy, as texts by name.
    penalties: by method; predicted gains are divided by them.
    training: the step that FLOPs and memory are counted for.
    scale: α/r of every LoRA module.
    granularity: whether LoRA's ranks follow the utilities of modules or of layers; None takes the finest that the
        strategy knows.
    gains: by method, the curve by which its gain grows, in place of the method's own and of what a spectrum says.
    abstain: whether the plan is uniform where the profile supports nothing else; None leaves it to the strategy.
    margins: whether the plan tells how far layers are from another method; None where that is found soon.
    min_rank: no module that is trained has a smaller LoRA rank, or core, but where its layer has no room for it; None
        for 1.
    max_rank: none has a larger one; None for the methods' own: 64 of LoRA, 128 of cores.
    """

    strategy: str
    budget: tuple[str, ...]
    weights: Mapping[str, float] | None = None
    normalizer: Normalizer = "share"
    aggregator: str = "weighted-mean"
    methods: tuple[str, ...] | None = None
    options: Mapping[str, str] = field(factory=dict)
    penalties: Mapping[str, float] = field(factory=dict)
    training: Training = field(factory=Training)
    scale: int = DEFAULT_SCALE
    granularity: Granularity | None = None
    abstain: bool | None = None
    gains: Mapping[str, GainCurve] = field(factory=dict)
    margins: bool | None = None
    min_rank: int | None = None
    max_rank: int | None = None

    @property
    def params_budget(self) -> str | None:
        """Its bound on parameters, such as ``params=r=4``; None where it has none."""
        return next((text for text in self.budget if text.startswith("params=")), None)
