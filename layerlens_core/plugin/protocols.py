"""What the providers of each kind load, as types that a type checker holds a plugin to.

===================== =============================================================================
record                what its ``load`` returns
===================== =============================================================================
`MetricProvider`      a `Score`; for an active metric an `ActiveScore`
`AggregatorProvider`  a `Combine`
`StrategyProvider`    a `Select`
`MethodProvider`      a `Method`; its ``module`` returns a class of `SideModule` or `LowRankForm`
`ExporterProvider`    an `Export`
===================== =============================================================================
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from attrs import field, frozen

from layerlens_core.values.candidates import CandidateSet, Target
from layerlens_core.values.costs import Limits
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Layer
from layerlens_core.values.scores import Granularity
from layerlens_core.values.statistics import ModuleStatistics

if TYPE_CHECKING:
    from layerlens_core.plugin.active import ActiveProfile
    from layerlens_core.plugin.export import ExportRequest


class Score(Protocol):
    """Scores one module from its statistics."""

    def __call__(self, statistics: ModuleStatistics, /) -> float:
        """The raw score of a module, in the metric's declared unit; never normalised."""


@frozen(kw_only=True)
class HalvedScores:
    """Scores of all samples, beside those of two halves of them without a sample in common.

    The halves tell how stable the order is, and nothing else: scores are those of all samples, which need not be the
    halves' mean.

    scores: by name of unit.
    halves: the same of each half.
    """

    scores: Mapping[str, float]
    halves: tuple[Mapping[str, float], Mapping[str, float]]


#: What an active metric gives: scores by name, bare or with their standard errors; bare scores of several repeats; or
#: bare scores beside those of halves of the samples.
ActiveScores = Mapping[str, float | tuple[float, float]] | Sequence[Mapping[str, float]] | HalvedScores


class ActiveScore(Protocol):
    """Scores layers, or modules where its provider has a ``reduction``, by running the model itself."""

    def __call__(self, profile: "ActiveProfile", /) -> ActiveScores:
        """The raw score of every unit in ``profile.units``, by its name. The model is left as it was.

        A score is a number, or a pair of it and its standard error in the same unit: over several seeds, over
        examples, or both. Give it for every unit or for none. With errors, noise does not decide
        (`layerlens_core.allocation.reliability`), and the profile tells how stable the ranking is.

        A metric that does the same several times, with seeds or parts of the samples that are independent, gives a
        sequence of its bare scores instead, one mapping a repeat. Scores are their means, and standard errors follow
        from their spread, those of layers too, whose modules' scores need not be independent. (Errors that come with
        scores of modules are taken to be independent.)

        A metric that measures a size, which is nowhere negative, gives `HalvedScores`: the profile then tells how
        stable its ranking is, and nothing is taken from the scores.
        """


class Combine(Protocol):
    """Combines metrics."""

    def __call__(self, columns: Mapping[str, Sequence[float]], weights: Mapping[str, float], /) -> Iterable[float]:
        """One utility for each unit.

        columns: by metric, a normalised score for each unit.
        weights: by metric; they sum to 1.
        """


@frozen(kw_only=True)
class Context:
    """What a strategy may know beside candidates and limits.

    options: as the user typed them, by name.
    only: the one unit whose decision will be looked at, where inputs are changed to see what follows; a strategy may
        leave out the decisions on all others, or pay no heed.
    granularity: whether LoRA's ranks shall follow the utilities of modules (`Unit.importance`) or of layers; one of
        the provider's ``granularities``.
    rank: that of the uniform LoRA by which the budget bounds the parameters (``params=r=8``), where it does.
    """

    options: Mapping[str, str] = field(factory=dict)
    only: str | None = None
    granularity: Granularity = "layer"
    rank: int | None = None


class Select(Protocol):
    """Decides which method each unit gets, and at which size."""

    def __call__(self, candidates: CandidateSet, limits: Limits, context: Context, /) -> Iterable[Decision]:
        """One decision for every unit, within the limits; a `Selection` where it can prove how good they are."""


class Method(Protocol):
    """Where a PEFT method attaches, what it costs, and how its size grows.

    notch: the step in which sizes grow (LoRA ranks by 1, adapter widths by 4 …); a notch costs about as much
        under one method as under another, so that sizes compare.
    ceiling: the share of a unit's gain that the method can reach at any size.
    half: the size, in notches, at which it reaches half of that.
    penalty: what gains are divided by unless the user says otherwise: above 1 for what is harder to train or serve.
    updates_weights: it trains a low-rank update of the linear modules' own weights, as LoRA does: it keeps their
        inputs, costs no latency once merged, and its gain by rank can be read off the gradient's spectrum.
    """

    @property
    def notch(self) -> int: ...
    @property
    def ceiling(self) -> float: ...
    @property
    def half(self) -> float: ...
    @property
    def penalty(self) -> float: ...
    @property
    def updates_weights(self) -> bool: ...

    def targets(self, layer: Layer, /) -> Sequence[Target]:
        """Where the method attaches in a layer; empty where it cannot."""

    def largest(self, layer: Layer, /) -> int:
        """The largest size worth having in a layer, unless the user names another (`Stretching`)."""


@runtime_checkable
class Stretching(Protocol):
    """A method of ranks that can be larger than `Method.largest` where the user asks for it (``--max-rank``)."""

    def possible(self, layer: Layer, /) -> int:
        """The largest size that there can be in a layer, at least `Method.largest`."""


class Export(Protocol):
    """Hands a plan to a trainer."""

    def __call__(self, request: "ExportRequest", /) -> tuple[Path, ...]:
        """Write files into the request's directory. Returns their paths."""
