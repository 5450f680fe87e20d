"""What a plugin provides: frozen records that cost nothing to list.

A record names the thing, says in a line what it is for and what it needs, and carries ``load``, a function
without arguments that imports whatever is heavy and returns the working object (`layerlens_core.plugin.protocols`).
Listing plugins never calls ``load``, so it never imports torch.
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import field, frozen
from attrs.validators import in_, instance_of, optional

from layerlens_core.values.scores import Granularity, Reduction
from layerlens_core.values.statistics import STATISTICS

if TYPE_CHECKING:
    from layerlens_core.adaptation.cores.form import LowRankForm
    from layerlens_core.adaptation.side_module import SideModule
    from layerlens_core.plugin.protocols import ActiveScore, Combine, Export, Method, Score, Select

Kind = Literal["metric", "aggregator", "strategy", "method", "exporter"]


def _lower_case(_instance: object, _attribute: object, value: object) -> None:
    if not isinstance(value, str) or re.fullmatch(r"[a-z][a-z0-9_-]*", value) is None:
        raise ValueError(
            f"a provider is named {value!r}, but names are of lower-case letters, digits, - and _, such as 'own-metric'"
        )


def _name() -> Any:
    return field(validator=_lower_case)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"expected several names, such as ({values!r},), but got the one string {values!r}")
    return tuple(values)


def _known_statistics(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    unknown = sorted(set(value) - set(STATISTICS))
    if unknown:
        raise ValueError(f"unknown statistics {unknown}; the engine gathers {sorted(STATISTICS)}")


def _granularities(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    if not value or not set(value) <= set(get_args(Granularity)):
        raise ValueError(f"granularities are layer, module or both, not {value}")


@frozen(kw_only=True)
class MetricProvider:
    """A signal that says how much a module, or a layer, is worth adapting.

    name: lower case, as it is typed in ``--metric NAME=WEIGHT``.
    summary: one line for ``layerlens plugins``.
    unit: the unit of the raw score, such as ``"nats"``.
    load: imports and returns the scoring function, an `ActiveScore` where the metric is active, else a `Score`.
    needs: the statistics that the engine has to gather (`STATISTICS`).
    reduction: how a layer's score follows from its modules': ``"sum"`` for what adds up, ``"mean"`` or
        ``"weighted_mean"`` (by numbers of weights) for ratios and values per weight. A passive metric that does not say
        it is refused when it is asked for; an active one that does not scores layers itself.
    active: the metric runs the model itself instead of reading statistics. With a reduction it scores modules.
    """

    name: str = _name()
    summary: str = field(validator=instance_of(str))
    unit: str = field(validator=instance_of(str))
    load: "Callable[[], Score | ActiveScore]"
    needs: tuple[str, ...] = field(default=(), converter=_names, validator=_known_statistics)
    reduction: Reduction | None = field(default=None, validator=optional(in_(get_args(Reduction))))
    active: bool = False

    @property
    def granularity(self) -> Granularity:
        """What it scores: modules where it says how these make a layer's score, and layers otherwise."""
        return "layer" if self.active and self.reduction is None else "module"

    @property
    def is_mean(self) -> bool:
        """Whether it follows from means over samples, so that parts of the samples give scores too."""
        return not self.active and bool(self.needs) and "spectrum" not in self.needs


@frozen(kw_only=True)
class AggregatorProvider:
    """A rule that combines the normalised scores of all metrics into one utility for each unit.

    name: lower case, as it is typed in ``--aggregator NAME``.
    summary: one line for ``layerlens plugins``.
    load: imports and returns the combining function.
    """

    name: str = _name()
    summary: str = field(validator=instance_of(str))
    load: "Callable[[], Combine]"


@frozen(kw_only=True)
class StrategyProvider:
    """A rule that picks one candidate for every unit within the limits.

    name: lower case, as it is typed in ``--strategy NAME``.
    summary: one line for ``layerlens plugins``.
    load: imports and returns the selecting function.
    options: the names that ``--set NAME=VALUE`` may carry; any other is refused before ``select`` runs.
    granularities: whose utilities LoRA's ranks can follow, layers' or modules' too; the first is what it does unless
        told otherwise.
    abstains: unless told otherwise, its plan is uniform where the profile supports nothing else.
    """

    name: str = _name()
    summary: str = field(validator=instance_of(str))
    load: "Callable[[], Select]"
    options: tuple[str, ...] = field(default=(), converter=_names)
    granularities: tuple[Granularity, ...] = field(default=("layer",), converter=_names, validator=_granularities)
    abstains: bool = field(default=False, validator=instance_of(bool))


@frozen(kw_only=True)
class MethodProvider:
    """A PEFT method: where it attaches, what it costs, how its size grows.

    name: lower case, as it is typed in ``--methods NAME,NAME``.
    summary: one line for ``layerlens plugins``.
    capacity: the method's place in the ascending order of the threshold strategy (none 0, prefix 10, adapter 20, lora
        30).
    applicable: whether ``apply`` can build it; methods that it cannot build are left out of the default set.
    load: imports and returns the method's places and costs.
    default: whether it is among the methods to choose from where the user names none. Of the built-in ones LoRA alone
        is: every trainer and server takes it.
    module: imports and returns the class that ``apply`` attaches, or that of what stands in the place of LoRA's A and
        B; None for the methods that PEFT attaches itself (LoRA), and for ``none``.
    gain_source: what its `Method.ceiling` and `Method.half` rest on, in words, which plans say.
    """

    name: str = _name()
    summary: str = field(validator=instance_of(str))
    capacity: int = field(validator=instance_of(int))
    applicable: bool = field(validator=instance_of(bool))
    load: "Callable[[], Method]"
    default: bool = True
    module: "Callable[[], type[SideModule] | type[LowRankForm]] | None" = None
    gain_source: str = field(default="as its plugin has it", validator=instance_of(str))


@frozen(kw_only=True)
class ExporterProvider:
    """A way to hand a plan to a trainer: files that it reads, or a refusal that says what it cannot express.

    name: lower case, as it is typed in ``--to NAME``.
    summary: one line for ``layerlens plugins``.
    load: imports and returns the exporting function.
    """

    name: str = _name()
    summary: str = field(validator=instance_of(str))
    load: "Callable[[], Export]"


Provider = MetricProvider | AggregatorProvider | StrategyProvider | MethodProvider | ExporterProvider

#: Kind of provider -> record type. `layerlens_core.plugin.hookspecs.HOOKS` has the hook of each kind.
KINDS: dict[Kind, type[Any]] = {
    "metric": MetricProvider,
    "aggregator": AggregatorProvider,
    "strategy": StrategyProvider,
    "method": MethodProvider,
    "exporter": ExporterProvider,
}


def needs_of(metrics: Iterable[MetricProvider], *, spectrum: bool = False) -> set[str]:
    """The statistics that any of these metrics needs, and the spectrum where that is wanted too."""
    return {need for metric in metrics for need in metric.needs} | ({"spectrum"} if spectrum else set())


def kind_of(provider: Provider) -> Kind:
    """The kind of a provider record, as in `KINDS`."""
    return next(kind for kind, record in KINDS.items() if isinstance(provider, record))


def strategy(name: str, select: "Select", *, summary: str = "registered in process") -> StrategyProvider:
    """A strategy from a plain function: ``layerlens_core.register(strategy("mine", select))``.

    name: lower case.
    select: as `Select` has it.
    summary: one line for ``layerlens plugins``.
    """
    return StrategyProvider(name=name, summary=summary, load=lambda: select)
