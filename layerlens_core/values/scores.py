"""Raw scores as metrics give them, and the utilities that they become, each a type of its own."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import field, frozen

from layerlens_core.errors import ScoreError
from layerlens_core.values.consistency.numbers import finite, shown
from layerlens_core.values.inventory import Inventory, LinearModule

if TYPE_CHECKING:
    from attrs import Attribute

Normalizer = Literal["share", "max", "rank", "zscore", "log"]
Granularity = Literal["layer", "module"]
Reduction = Literal["sum", "mean", "weighted_mean"]

#: How a layer's score follows from its modules', and what each is for.
REDUCTIONS: Mapping[Reduction, str] = {
    "sum": "for what adds up, such as squared norms or nats",
    "mean": "for ratios, every module counting alike",
    "weighted_mean": "for ratios and values per weight, by the modules' numbers of weights",
}

#: The signal with the best evidence (docs/evidence.md).
DEFAULT_METRIC = "gora"
#: What is nearest to it of those that the pass for statistics gives, as means over samples.
DEFAULT_PASSIVE_METRIC = "weight_gradient"


def default_metric(*, sharded: bool, samples: Literal["all", "auto"], scores: str) -> tuple[str, str | None]:
    """The metric where none is named, and why it is not `DEFAULT_METRIC` where it is not.

    sharded: the weights are spread over processes, with which no metric runs the model by itself.
    samples: ``auto`` stops by metrics that are means over samples.
    scores: other than ``exact`` are a matter of metrics that the pass for statistics gives.
    """
    for against, why in (
        (sharded, "weights are sharded"),
        (samples == "auto", "samples are taken until a mean over them has settled"),
        (scores != "exact", f"scores are asked for as {scores}"),
    ):
        if against:
            return DEFAULT_PASSIVE_METRIC, why
    return DEFAULT_METRIC, None


def _plain(values: Any) -> Any:
    """NumPy's scalars as floats, so that they can be written; what is no number is left for the validator."""
    if not isinstance(values, Mapping):
        return values
    plain = {name: finite(value) for name, value in values.items()}
    return {name: values[name] if number is None else number for name, number in plain.items()}


def _numbers(instance: "RawScores", attribute: "Attribute[Mapping[str, float]]", value: Mapping[str, float]) -> None:
    what = "score" if attribute.name == "values" else "standard error"
    if not isinstance(value, Mapping):
        raise ScoreError(f"metric {instance.metric!r} gave {shown(value)}; it must give one {what} by name")
    for name, number in value.items():
        if finite(number) is None:
            raise ScoreError(
                f"metric {instance.metric!r} gave {shown(number)} as the {what} of {name}; it must be finite and one "
                "raw number, which is normalised later, exactly once"
            )
        if what != "score" and number < 0:
            raise ScoreError(f"metric {instance.metric!r} gave {number:g} as the {what} of {name}; it is at least 0")


@frozen(kw_only=True)
class RawScores:
    """One metric's raw values, by module or by layer name, in the metric's unit.

    metric: its name.
    unit: what the values are measured in.
    granularity: what the keys of ``values`` are, modules or layers.
    values: by name, never normalised.
    errors: standard errors in the metric's unit, by name of layer, and of module where modules are scored; empty where
        none are known.
    reduction: how a layer's score follows from its modules' (`REDUCTIONS`); None where layers are scored.

    Raises `ScoreError` for what is no finite number, and for scores of modules without a reduction.
    """

    metric: str
    unit: str
    granularity: Granularity
    values: Mapping[str, float] = field(converter=_plain, validator=_numbers)
    errors: Mapping[str, float] = field(factory=dict, converter=_plain, validator=_numbers)
    reduction: Reduction | None = None

    def __attrs_post_init__(self) -> None:
        if self.granularity not in get_args(Granularity):
            raise ScoreError(f"metric {self.metric!r} scores {self.granularity!r}; there are layer and module")
        if self.reduction not in REDUCTIONS and (self.reduction is not None or self.granularity == "module"):
            raise ScoreError(f"metric {self.metric!r}: {describe_missing_reduction(self.reduction)}")

    def by_layer(self, inventory: Inventory) -> dict[str, float]:
        """Values by layer. Modules without a score are left out, and so are layers without any.

        Raises `ScoreError` where a layer's sum exceeds the largest number.
        """
        if self.granularity == "layer":
            return {layer.name: self.values[layer.name] for layer in inventory.layers if layer.name in self.values}
        layers: dict[str, float] = {}
        for layer in inventory.layers:
            scored = [module for module in layer.modules if module.name in self.values]
            if scored:
                layers[layer.name] = self._reduced(layer.name, scored)
        return layers

    def errors_by_layer(self, errors: Mapping[str, float], inventory: Inventory) -> dict[str, float]:
        """Standard errors of layers from those of modules, as of modules whose scores are independent.

        Empty where layers are scored, or no errors are known.

        errors: by name of module.
        inventory: of the model.
        """
        found: dict[str, float] = {}
        for layer in inventory.layers if self.granularity == "module" else ():
            scored = [module for module in layer.modules if module.name in errors]
            if scored:
                weights = self._weights(scored)
                parts = [weight * errors[module.name] for weight, module in zip(weights, scored, strict=True)]
                found[layer.name] = math.hypot(*parts) / (1 if self.reduction == "sum" else sum(weights))
        return found

    def _weights(self, modules: Sequence[LinearModule]) -> list[int]:
        if self.reduction == "weighted_mean":
            return [module.in_features * module.out_features for module in modules]
        return [1] * len(modules)

    def _reduced(self, layer: str, modules: Sequence[LinearModule]) -> float:
        values = [self.values[module.name] for module in modules]
        weights = self._weights(modules)
        total = 1 if self.reduction == "sum" else sum(weights)
        reduced = _combined(values, weights) / total
        if not math.isfinite(reduced):  # what overflowed need not be the result
            largest = max(map(abs, values))
            reduced = _combined([value / largest for value in values], weights) / total * largest
        if not math.isfinite(reduced):
            raise ScoreError(
                f"the scores of metric {self.metric!r} in layer {layer} add up to more than a number can hold "
                f"(about 1.8e308); {describe_missing_reduction()}"
            )
        return reduced


def _combined(values: Sequence[float], weights: Sequence[int]) -> float:
    try:
        return math.fsum(weight * value for weight, value in zip(weights, values, strict=True))
    except (OverflowError, ValueError):  # as fsum calls what is too large, or infinite of both signs
        return math.inf


def describe_missing_reduction(given: object = None) -> str:
    """What to do where a metric does not say how its modules' scores make a layer's.

    given: what it says instead.
    """
    said = f"reduction is {given!r}; " if given is not None else ""
    uses = "; ".join(f"{name!r} {use}" for name, use in REDUCTIONS.items())
    return f"{said}a layer's score follows from its modules' by the metric's reduction, which is one of {uses}"


@frozen(kw_only=True)
class Utilities:
    """One utility for each unit, with the numbers that it follows from.

    units: names in model order, of layers, as everywhere; of modules where the modules of layers are weighed.
    values: utilities, aligned with ``units``.
    raw: by metric, raw scores aligned with ``units``.
    errors: by metric that has them, their standard errors, aligned with ``units``.
    normalized: by metric, normalised scores aligned with ``units``.
    weights: as given; the combination divides by their sum.
    normalizer: which was applied.
    aggregator: name of the provider that combined the normalised scores.
    """

    units: tuple[str, ...]
    values: tuple[float, ...]
    raw: Mapping[str, tuple[float, ...]]
    normalized: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, float]
    normalizer: Normalizer
    aggregator: str
    errors: Mapping[str, tuple[float, ...]] = field(factory=dict)
