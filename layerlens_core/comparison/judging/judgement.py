"""What a comparison finds, as plain data that `files.documents` writes."""

from typing import Literal

from attrs import frozen

from layerlens_core.comparison.judging.curves import Factor, Sufficient
from layerlens_core.comparison.judging.statistics import Difference

#: What every arm is compared with, and what is recommended where nothing is shown to be better.
UNIFORM = "uniform"
#: The arm that is the run's own plan.
PLANNED = "plan"
#: ``uniform``: it is what others are compared with; ``same``: it trains the very same sizes; ``diverged``: at its rate
#: a seed gave no finite loss; ``unmatched``: uniform has no finite loss at this budget.
Finding = Literal["uniform", "same", "better", "worse", "no difference", "diverged", "unmatched"]


@frozen(kw_only=True)
class Range:
    """A number and its interval.

    estimate: the number.
    low, high: ends of the interval.
    """

    estimate: float
    low: float
    high: float


@frozen(kw_only=True)
class Judged:
    """One arm at one budget, at its own best rate.

    arm, budget: as they are called.
    parameters: that train.
    rate: at which it is judged.
    rates: that were trained in full, in order.
    seeds: at this rate; those that diverged among them in ``diverged``.
    finding: see `Finding`.
    sentence: the same in words.
    loss: held-out negative log-likelihood, in nats a label, mean over seeds; none where a seed diverged.
    seeds_low, seeds_high: interval of the loss over seeds, for these held-out examples; none with one seed.
    difference: of the loss to uniform at the same budget, in nats a label.
    ratio: the same as a share of uniform's loss: -0.01 is 1 % less.
    corrected: p of the difference, corrected for all arms that were compared.
    factor: in parameters of uniform (see `Factor`).
    accuracy: mean share of right answers a label, where the task has any.
    right: its difference to uniform; positive is better.
    memory: bytes of device memory of a run: its share of the peak where that was measured, else as planned; 0 where
        neither is known.
    step: seconds of a training step; of runs that were stacked, their share.
    """

    arm: str
    budget: str
    parameters: int
    rate: float
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    finding: Finding
    sentence: str
    diverged: tuple[int, ...] = ()
    loss: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    difference: Difference | None = None
    ratio: Range | None = None
    corrected: float | None = None
    factor: Factor | None = None
    accuracy: float | None = None
    right: Difference | None = None
    memory: float = 0.0
    step: float = 0.0

    @property
    def key(self) -> str:
        """Arm and budget, as tables name them."""
        return f"{self.arm} {self.budget}"


@frozen(kw_only=True)
class Overall:
    """An arm against uniform, over all budgets that both have.

    arm: its name.
    budgets: which.
    difference: mean over budgets of the logarithm of the ratio of losses.
    corrected: its p, corrected for all arms that were compared over budgets.
    finding, sentence: as for `Judged`.
    """

    arm: str
    budgets: tuple[str, ...]
    difference: Difference
    corrected: float | None
    finding: Finding
    sentence: str


@frozen(kw_only=True)
class Recommended:
    """What to train at a budget.

    budget: as typed.
    arm: uniform, unless another is shown to be better.
    rate: its best.
    sentence: why.
    """

    budget: str
    arm: str
    rate: float
    sentence: str


@frozen(kw_only=True)
class Verdict:
    """What a comparison shows, and what it does not.

    judged: every arm at every budget, the smallest budget first, and in each uniform first.
    overall: every arm that has two budgets or more in common with uniform.
    sufficient: by arm with two budgets or more, which is enough.
    recommended: by budget, what to train.
    summary: the whole in a few sentences.
    warnings: what weakens it.
    examples, labels: that were held out.
    tolerance: of what is enough; 0.01 is 1 %.
    confidence: of the intervals, and of the tests.
    """

    judged: tuple[Judged, ...]
    overall: tuple[Overall, ...]
    sufficient: tuple[Sufficient, ...]
    recommended: tuple[Recommended, ...]
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    examples: int
    labels: int
    tolerance: float
    confidence: float
