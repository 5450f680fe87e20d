"""Raw scores as metrics give them, and the utilities that they become, each a type of its own."""

import math
from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from layerlens_core.errors import ScoreError
from layerlens_core.values.inventory import Inventory

Normalizer = Literal["share", "max", "rank", "zscore", "log"]
Granularity = Literal["layer", "module"]
#: How a layer's score follows from its modules': their sum, or their mean weighted by the number of weights.
Reduction = Literal["sum", "weighted_mean"]

#: The passive signal with the best evidence: shares of squared gradient norms starve modules, this one less so.
DEFAULT_METRICS = ("weight_gradient",)


def _numbers(_instance: object, attribute: object, value: Mapping[str, float]) -> None:
    for name, score in value.items():
        if not isinstance(score, (int, float)) or isinstance(score, bool):
            raise ScoreError(
                f"a metric must give one raw number for {name}, but gave {type(score).__name__}; "
                "values are normalised later, exactly once"
            )
        if not math.isfinite(score):
            raise ScoreError(f"the score of {name} is {score}; scores must be finite")


@frozen(kw_only=True)
class RawScores:
    """One metric's raw values, by module or by layer name, in the metric's unit.

    metric: its name.
    unit: what the values are measured in.
    granularity: what the keys of ``values`` are, modules or layers.
    values: by name, never normalised.
    reduction: how modules add up to layers.
    """

    metric: str
    unit: str
    granularity: Granularity
    values: Mapping[str, float] = field(validator=_numbers)
    reduction: Reduction = "sum"

    def by_layer(self, inventory: Inventory) -> dict[str, float]:
        """Values by layer. Modules without a score are left out, and so are layers without any."""
        if self.granularity == "layer":
            return {layer.name: self.values[layer.name] for layer in inventory.layers if layer.name in self.values}
        layers: dict[str, float] = {}
        for layer in inventory.layers:
            scored = [module for module in layer.modules if module.name in self.values]
            if not scored:
                continue
            if self.reduction == "sum":
                layers[layer.name] = math.fsum(self.values[module.name] for module in scored)
            else:
                weights = [module.in_features * module.out_features for module in scored]
                total = math.fsum(
                    weight * self.values[module.name] for weight, module in zip(weights, scored, strict=True)
                )
                layers[layer.name] = total / sum(weights)
        return layers


@frozen(kw_only=True)
class Utilities:
    """One utility for each unit, with the numbers that it follows from.

    units: names in model order, of layers, as everywhere; of modules where the modules of layers are weighed.
    values: utilities, aligned with ``units``.
    raw: by metric, raw scores aligned with ``units``.
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
