"""From what was measured to raw scores: metrics that read statistics, those that run the model, and their stability."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import cast

import attrs
from attrs import field, frozen

from layerlens_core.errors import ScoreError
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.plugin.probe import check_needs
from layerlens_core.plugin.protocols import ActiveScore, ActiveScores, HalvedScores, Score
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.stability import (
    errors_of_repeats,
    jackknife,
    rank_correlation,
    split_half,
    split_half_of_errors,
)
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.scores import Granularity, RawScores
from layerlens_core.values.statistics import ModuleStatistics


@frozen
class Scored:
    """What a metric found.

    scores: raw.
    stability: by granularity, how far the ranking agrees between halves of the samples, where the metric itself tells.
    """

    scores: RawScores
    stability: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Metric:
    """A provider with the function that it loads.

    provider: the record.
    function: scores modules, or, where the metric is active, all units at once.
    """

    provider: MetricProvider
    function: Score | ActiveScore

    @property
    def name(self) -> str:
        """As the user typed it."""
        return self.provider.name

    @property
    def is_mean(self) -> bool:
        """See `MetricProvider.is_mean`."""
        return self.provider.is_mean

    def passive(self, statistics: Iterable[ModuleStatistics]) -> RawScores:
        """Raw scores by module, of a metric that reads statistics."""
        score = cast(Score, self.function)
        return self._raw({each.module: score(each) for each in statistics})

    def active(self, profile: ActiveProfile, workers: Workers) -> Scored:
        """What a metric that runs the model finds: the first worker runs it, and all get its scores."""
        score = cast(ActiveScore, self.function)

        def found() -> ActiveScores:
            return score(profile) if workers.rank == 0 else {}

        (given,) = workers.first((workers.agreed(found),))
        if isinstance(given, HalvedScores):
            return self._halved(given, profile.inventory)
        if isinstance(given, Mapping):
            pairs = {unit: found for unit, found in given.items() if isinstance(found, tuple)}
            numbers = {unit: found for unit, found in given.items() if not isinstance(found, tuple)}
            scores = self._raw(numbers | {unit: value for unit, (value, _) in pairs.items()})
            errors = {unit: error for unit, (_, error) in pairs.items()}
            scores = attrs.evolve(scores, errors={**errors, **scores.errors_by_layer(errors, profile.inventory)})
        else:
            scores = self._repeated(given, profile.inventory)
        return Scored(scores, _stability_of_errors(scores, profile.inventory, profile.seed))

    def _halved(self, given: HalvedScores, inventory: Inventory) -> Scored:
        """Scores with the rank correlation between the halves, of layers, and of modules where these are scored."""
        scores = self._raw(given.scores)
        halves = [self._raw(half) for half in given.halves]
        ranked = {"layer": [list(half.by_layer(inventory).values()) for half in halves]}
        if scores.granularity == "module":
            ranked["module"] = [[half.values[unit] for unit in scores.values] for half in halves]
        found = {granularity: rank_correlation(*values) for granularity, values in ranked.items()}
        return Scored(scores, {granularity: each for granularity, each in found.items() if each is not None})

    def _repeated(self, repeats: Sequence[Mapping[str, float]], inventory: Inventory) -> RawScores:
        """The mean over repeats, with standard errors of units, and of layers where modules are scored."""
        count = len(repeats)
        scores = self._raw({unit: math.fsum(each[unit] / count for each in repeats) for unit in repeats[0]})
        errors = errors_of_repeats(repeats)
        if scores.granularity == "module":
            errors |= errors_of_repeats([self._raw(repeat).by_layer(inventory) for repeat in repeats])
        return attrs.evolve(scores, errors=errors)

    def _raw(self, values: Mapping[str, float]) -> RawScores:
        provider = self.provider
        return RawScores(
            metric=self.name,
            unit=provider.unit,
            granularity=provider.granularity,
            values=values,
            reduction=provider.reduction,
        )

    def measured(
        self, statistics: Sequence[ModuleStatistics], inventory: Inventory, ledger: Ledger, seed: int
    ) -> RawScores:
        """As `passive`, with standard errors over the samples where the scores are signed, and samples allow.

        A metric that is nowhere negative measures a size, which noise does not turn into another's. Where a module's
        score is negative, zero means that there is nothing, and what lies about it may be noise.

        statistics: of the scored modules.
        inventory: of the model.
        ledger: what was measured, from which parts of the samples are taken.
        seed: draws the parts.
        """
        scores = self.passive(statistics)
        if not self.is_mean or min(scores.values.values(), default=0.0) >= 0:
            return scores

        def of_part(groups: Sequence[int]) -> dict[str, float]:
            part = self.passive(ledger.statistics(each.module, each.weights, groups=groups) for each in statistics)
            return {**part.values, **part.by_layer(inventory)}

        return attrs.evolve(scores, errors=jackknife(of_part, ledger.groups, seed=seed))


def load_metrics(names: Iterable[str], registry: Registry) -> tuple[Metric, ...]:
    """Metrics by name, each once.

    Raises `ScoreError` where none is named, and `PluginError` for names that are unknown, for providers that cannot be
    loaded, and for a metric that reads a statistic that it does not declare.
    """
    metrics = []
    for name in dict.fromkeys(names):
        provider, function = registry.get("metric", name), registry.load("metric", name)
        if not provider.active:
            check_needs(provider, cast(Score, function), registry.origin("metric", name))
        metrics.append(Metric(provider=provider, function=function))
    if not metrics:
        raise ScoreError(f"name at least one metric; there are: {', '.join(registry.names('metric'))}")
    return tuple(metrics)


def stabilities(
    metrics: Sequence[Metric],
    inventory: Inventory,
    ledger: Ledger,
    scored: Collection[str],
    seed: int,
    granularity: Granularity = "layer",
) -> dict[str, float]:
    """By metric that is a mean over samples, how far the ranking agrees between halves of the samples.

    metrics: those asked for.
    inventory: of the model.
    ledger: what was measured.
    scored: the names of the modules that have a score.
    seed: draws the halves.
    granularity: whether layers or modules are ranked.
    """
    weights = {module.name: module.in_features * module.out_features for module in inventory.modules}
    found = {}
    for metric in metrics:
        if not metric.is_mean:
            continue

        def of_part(groups: Sequence[int], metric: Metric = metric) -> list[float]:
            parts = (ledger.statistics(module, weights[module], groups=groups) for module in scored)
            scores = metric.passive(parts)
            return list((scores.values if granularity == "module" else scores.by_layer(inventory)).values())

        stability = split_half(of_part, ledger.groups, seed=seed)
        if stability is not None:
            found[metric.name] = stability
    return found


def told(found: Iterable[Scored], granularity: Granularity) -> dict[str, float]:
    """By metric that itself tells, how stable its ranking of layers or of modules is."""
    return {each.scores.metric: each.stability[granularity] for each in found if granularity in each.stability}


def _stability_of_errors(scores: RawScores, inventory: Inventory, seed: int) -> dict[str, float]:
    """By granularity, what the standard errors let expect of halves of the samples; of layers alone, if anything."""
    if not scores.errors:
        return {}
    values = scores.by_layer(inventory)
    errors = [scores.errors[layer] for layer in values]
    stability = split_half_of_errors(list(values.values()), errors, seed=seed)
    return {} if stability is None else {"layer": stability}
