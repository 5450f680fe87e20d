"""What a metric owes (`layerlens_core.plugin.protocols.Score` and `ActiveScore`), as checks on tiny models."""

import math
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

from layerlens_core.errors import PluginError
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.plugin.discovery import Plugin
from layerlens_core.plugin.given_scores import score_given
from layerlens_core.plugin.guard import Origin, blamed
from layerlens_core.plugin.probe import check_needs
from layerlens_core.plugin.protocols import HalvedScores, Score
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.plugin.registry import IN_PROCESS
from layerlens_core.testing.chance import seeded
from layerlens_core.testing.check import Check, Failed, common_checks, named, require
from layerlens_core.testing.models import MODELS, tiny_model, tiny_profile, tiny_samples
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.testing.state import first_difference, state_of
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import describe_missing_reduction
from layerlens_core.values.statistics import FIELDS, ModuleStatistics

#: Of these models a metric scores every unit.
SCORED = ("llama", "gpt2", "bert-classifier")


def check_metric(provider: MetricProvider, *, module: str | None = None, models: Sequence[str] = SCORED) -> list[Check]:
    """The clauses of a metric's contract, for ``pytest.mark.parametrize("check", …, ids=str)``.

    provider: the record.
    module: where its hooks are; None takes the module of its ``load``.
    models: names of the tiny models that it scores, of `MODELS`; the first one is used for most.
    """
    metric: _Metric = _Active(provider, models) if provider.active else _Passive(provider, models)
    return [
        *common_checks(provider, module),
        Check("says-how-modules-make-a-layer", metric.reduces),
        *([Check("declares-what-it-needs", metric.declares)] if not provider.active else []),
        Check("covers-the-inventory", metric.covers),
        Check("is-finite", metric.is_finite),
        Check("gives-plain-numbers", metric.gives_plain_numbers),
        Check("is-deterministic", metric.is_deterministic),
        *([Check("restores-the-model", metric.restores)] if provider.active else []),
        Check("survives-save-and-load", metric.survives),
    ]


class _Metric:
    """One metric, and what it gives of the tiny models; subclasses say how it is called."""

    def __init__(self, provider: MetricProvider, models: Sequence[str]) -> None:
        self.provider, self.models = provider, tuple(models)
        self._given: dict[str, Any] = {}

    def scored(self, name: str, seed: int = 0) -> Any:
        """What the metric gives of a model, unchecked; whatever it raises is told with its name."""
        raise NotImplementedError

    def expected(self, name: str) -> Sequence[str]:
        """The units that it has to score."""
        inventory = tiny_profile(name).inventory
        return [each.name for each in (inventory.layers if self.of_layers else inventory.modules)]

    @property
    def of_layers(self) -> bool:
        """Whether it scores layers."""
        return self.provider.granularity == "layer"

    def reduces(self) -> None:
        """A metric that scores modules says how they make a layer."""
        require(
            self.of_layers or self.provider.reduction is not None,
            f"{named(self.provider)} scores modules: {describe_missing_reduction()}",
        )

    def declares(self) -> None:
        """It reads no statistic that it does not declare."""

    def covers(self) -> None:
        """Every unit of the inventory has a score, and nothing else has."""
        for name in self.models:
            units = self.expected(name)
            for scores in _mappings(self.first(name)):
                missing = [unit for unit in units if unit not in scores]
                unknown = [unit for unit in scores if unit not in units]
                require(not missing, f"{named(self.provider)} gives no score for {missing[:1]} of {name}")
                require(not unknown, f"{named(self.provider)} scores {unknown[:1]}, which is no unit of {name}")

    def is_finite(self) -> None:
        """No score, and no standard error, is infinite or no number."""
        for name in self.models:
            for where, value in self.numbers(name):
                bad = isinstance(value, float) and not math.isfinite(value)
                require(not bad, f"{named(self.provider)} gives {value} for {where}")

    def numbers(self, name: str) -> Iterator[tuple[str, Any]]:
        """Scores and standard errors of a model, as they were given, each with what it is of."""
        for scores in _mappings(self.first(name)):
            for unit, score in scores.items():
                for value in score if isinstance(score, tuple) else (score,):
                    yield f"{unit} of {name}", value

    def gives_plain_numbers(self) -> None:
        """Scores are of the types that the contract names: numbers, and pairs of them for all units or none."""
        for name in self.models:
            found = self.first(name)
            for where, value in self.numbers(name):
                require(
                    hasattr(value, "__float__") and type(value).__module__ in ("builtins", "numpy"),
                    f"{named(self.provider)} gives {type(value).__name__} for {where}; a score is one plain number",
                )
            self.check_shape(name, found)

    def check_shape(self, name: str, found: Any) -> None:
        """What is asked of all scores together."""

    def is_deterministic(self) -> None:
        """A second time it gives the same to the last bit, whatever was drawn before."""
        name = self.models[0]
        again = self.scored(name, seed=1)
        require(_same(self.first(name), again), f"{named(self.provider)} gives other scores a second time, on {name}")

    def restores(self) -> None:
        """The model is as it was."""

    def survives(self) -> None:
        """A profile with these scores is the same once it is written and read."""
        from layerlens_core.profiling.profile import profile

        name = self.models[0]
        with isolated_registry(self.provider) as registry, tempfile.TemporaryDirectory() as run:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of few samples
                try:
                    made = profile(
                        tiny_model(name), tiny_samples(name), metrics=[self.provider.name], micro_batch=4,
                        registry=registry,
                    )  # fmt: skip
                except PluginError:
                    return  # it breaks another clause, whose check says which
            made.save(run)
            read = Profile.load(run)
        require(read == made, f"a profile of {named(self.provider)} is another once it is written and read")

    def first(self, name: str) -> Any:
        """What it gives of a model, asked once."""
        if name not in self._given:
            self._given[name] = self.scored(name)
        return self._given[name]


class _Passive(_Metric):
    """A metric that reads statistics."""

    def scored(self, name: str, seed: int = 0) -> dict[str, Any]:
        return self._scores(tiny_profile(name).statistics, seed)

    def _scores(self, statistics: Iterable[ModuleStatistics], seed: int = 0) -> dict[str, Any]:
        score, found = cast(Score, self.provider.load()), {}
        with seeded(seed):
            for each in statistics:
                with blamed(_origin(self.provider), on=each.module):
                    found[each.module] = score(each)
        return found

    def declares(self) -> None:
        try:
            check_needs(self.provider, cast(Score, self.provider.load()), _origin(self.provider))
        except PluginError as error:
            raise Failed(str(error)) from error

    def numbers(self, name: str) -> Iterator[tuple[str, Any]]:
        yield from super().numbers(name)
        # A module that no gradient reaches, and one of the largest and smallest sums.
        for factor in (0.0, 1e-30, 1e30):
            scaled = (_times(each, factor) for each in tiny_profile(name).statistics[:2])
            for module, score in self._scores(scaled).items():
                yield f"{module} of {name}, all statistics times {factor:g}", score


class _Active(_Metric):
    """A metric that runs the model."""

    def scored(self, name: str, seed: int = 0) -> Any:
        return self._scores(_active_profile(name, self.provider), seed)

    def _scores(self, profile: ActiveProfile, seed: int = 0) -> Any:
        with seeded(seed):
            return cast(Any, self.provider.load())(profile)

    def check_shape(self, name: str, found: Any) -> None:
        # Units that lack a score, and numbers that are not finite, are other clauses'.
        units = self.expected(name)
        if isinstance(found, HalvedScores):
            one, other = (_completed(half, units) for half in found.halves)
            found = HalvedScores(scores=_completed(found.scores, units), halves=(one, other))
        elif isinstance(found, Mapping):
            found = _completed(found, units)
        elif isinstance(found, Sequence):
            found = [_completed(each, units) if isinstance(each, Mapping) else each for each in found]
        try:
            score_given(named(self.provider), found, _active_profile(name, self.provider))
        except PluginError as error:
            raise Failed(str(error)) from error

    def restores(self) -> None:
        for name in dict.fromkeys((self.models[0], self.models[-1])):
            profile = _active_profile(name, self.provider)
            _disarrange(profile)
            with seeded(2):
                before = state_of(profile.model)
                cast(Any, self.provider.load())(profile)
                difference = first_difference(before, state_of(profile.model))
            require(difference is None, f"{named(self.provider)} leaves {name} with other {difference}")


def _origin(provider: MetricProvider) -> Origin:
    return Origin("metric", provider.name, Plugin(name=provider.name, distribution=IN_PROCESS))


def _times(statistics: ModuleStatistics, factor: float) -> ModuleStatistics:
    """Statistics of gradients that are √factor times as large, or of none."""
    powers = {"sum_fourth_power": 2.0, "sum_group_mean_fourth_power": 2.0, "sum_weight_gradient": 0.5}
    changed: dict[str, Any] = {
        name: value * factor ** powers.get(name, 1.0)
        for name in FIELDS
        if isinstance(value := getattr(statistics, name), float)
    }
    changed["spectrum"] = tuple(value * factor**0.5 for value in statistics.spectrum)
    return attrs.evolve(statistics, **changed)


def _active_profile(name: str, provider: MetricProvider) -> ActiveProfile:
    """A new tiny model, and all that an active metric gets."""
    inventory = tiny_profile(name).inventory
    return ActiveProfile(
        model=tiny_model(name),
        inventory=inventory,
        scored=tuple(layer.name for layer in inventory.layers),
        modules=tuple(module.name for module in inventory.modules),
        granularity=provider.granularity,
        samples=tuple(tiny_samples(name)),
        task=MODELS[name][2],
        micro_batch=4,
        seed=0,
        progress=lambda done, total: None,
    )


def _disarrange(profile: ActiveProfile) -> None:
    """Put parts of a model into different states: frozen or not, with a gradient or without, in both modes."""
    import torch

    for index, parameter in enumerate(profile.model.parameters()):
        parameter.requires_grad_(index % 3 != 0)
        if index % 3 == 1:
            parameter.grad = torch.ones_like(parameter)
    for index, child in enumerate(profile.model.modules()):
        child.training = index % 2 == 0


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    """Each mapping from units to scores in what a metric gives."""
    if isinstance(found, HalvedScores):
        return [found.scores, *found.halves]
    if isinstance(found, Mapping):
        return [found]
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, Sequence) else []


def _completed(scores: Mapping[str, Any], units: Sequence[str]) -> dict[str, Any]:
    """The same scores, with one for every unit and no other, and 0 for what is not finite."""
    known = next(iter(scores.values()), 0.0)
    return {unit: _made_finite(scores.get(unit, known)) for unit in units}


def _made_finite(score: Any) -> Any:
    if isinstance(score, tuple):
        return tuple(map(_made_finite, score))
    return 0.0 if isinstance(score, float) and not math.isfinite(score) else score


def _same(one: Any, other: Any) -> bool:
    """Whether two results are the same to the last bit; NaN is like NaN."""
    return repr([dict(each) for each in _mappings(one)]) == repr([dict(each) for each in _mappings(other)])
