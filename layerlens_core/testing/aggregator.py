"""What an aggregator owes (`layerlens_core.plugin.protocols.Combine`), as checks on random columns."""

import math
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import attrs

from layerlens_core.allocation.allocate import allocate
from layerlens_core.errors import ScoreError
from layerlens_core.plugin.providers import AggregatorProvider
from layerlens_core.testing.chance import seeded
from layerlens_core.testing.check import Check, common_checks, named, require
from layerlens_core.testing.instances import random_profile
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.values.consistency.numbers import finite
from layerlens_core.values.plan import Plan

#: Columns that an aggregator is held to.
CASES = 60

Columns = Mapping[str, Sequence[float]]


def check_aggregator(provider: AggregatorProvider, *, module: str | None = None) -> list[Check]:
    """The clauses of an aggregator's contract, for ``pytest.mark.parametrize("check", …, ids=str)``.

    provider: the record.
    module: where its hooks are; None takes the module of its ``load``.
    """
    aggregator = _Aggregator(provider)
    return [
        *common_checks(provider, module),
        Check("covers-the-inventory", aggregator.covers),
        Check("is-finite", aggregator.is_finite),
        Check("keeps-the-order-of-units", aggregator.keeps_order),
        Check("is-deterministic", aggregator.is_deterministic),
        Check("leaves-its-columns-alone", aggregator.leaves_alone),
        Check("survives-save-and-load", aggregator.survives),
    ]


class _Aggregator:
    """One aggregator, and what it makes of columns."""

    def __init__(self, provider: AggregatorProvider) -> None:
        self._provider = provider

    def covers(self) -> None:
        """One utility for every unit, of one unit and of many."""
        for columns, weights in _cases():
            count, found = len(next(iter(columns.values()))), self._combined(columns, weights)
            require(len(found) == count, f"{named(self._provider)} gives {len(found)} utilities for {count} units")

    def is_finite(self) -> None:
        """Every utility is one finite number, of zeros and of a single unit too."""
        for columns, weights in _cases():
            wrong = [value for value in self._combined(columns, weights) if finite(value) is None]
            require(not wrong, f"{named(self._provider)} gives {wrong[:1]} for {columns} weighted {weights}")

    def keeps_order(self) -> None:
        """Utilities stand in the order of the units: in another order of the units they move along."""
        draw = random.Random(1)
        for columns, weights in _cases():
            found = self._combined(columns, weights)
            units = len(next(iter(columns.values())))
            order = draw.sample(range(units), units)
            moved = {name: tuple(column[i] for i in order) for name, column in columns.items()}
            again = self._combined(moved, weights)
            if not len(found) == len(again) == len(order):
                continue  # which is another clause's
            same = all(_alike(value, found[i]) for value, i in zip(again, order, strict=True))
            require(same, f"{named(self._provider)} gives units other utilities where they come in another order")

    def is_deterministic(self) -> None:
        """The same columns give the same utilities, whatever was drawn before."""
        for columns, weights in _cases():
            found, again = (list(map(repr, self._combined(columns, weights, seed))) for seed in (0, 1))
            require(found == again, f"{named(self._provider)} gives other utilities when it is asked again")

    def leaves_alone(self) -> None:
        """The columns, which others read too, and the weights are as they were."""
        for columns, weights in _cases():
            given = dict(columns), dict(weights)
            self._combined(*given, copied=False)
            require(given == (columns, weights), f"{named(self._provider)} changes the columns that it is given")

    def survives(self) -> None:
        """A plan of these utilities is the same once it is written and read."""
        name = self._provider.name
        one, other = random_profile(4), random_profile(4, metric="another")
        profile = attrs.evolve(one, scores=(*one.scores, *other.scores))
        with isolated_registry(self._provider) as registry, tempfile.TemporaryDirectory() as run:
            try:
                plan = allocate(profile, strategy="uniform", budget="params=r=2", aggregator=name, registry=registry)
            except ScoreError:
                return  # it breaks another clause, whose check says which
            require(plan.request.aggregator == name, f"the plan does not name {named(self._provider)}")
            plan.save(run)
            require(Plan.load(run) == plan, f"a plan of {named(self._provider)} is another once it is written and read")

    def _combined(
        self, columns: Columns, weights: Mapping[str, float], seed: int = 0, *, copied: bool = True
    ) -> list[float]:
        if copied:
            columns, weights = dict(columns), dict(weights)
        with seeded(seed), isolated_registry(self._provider) as registry:
            return list(registry.load("aggregator", self._provider.name)(columns, weights))


def _cases() -> Iterator[tuple[Columns, Mapping[str, float]]]:
    """Columns of one to three metrics and one to nine units, with weights that sum to 1; some are zeros."""
    draw = random.Random(0)
    for case in range(CASES):
        metrics, units = draw.randint(1, 3), draw.randint(1, 9)
        columns = {
            f"metric-{i}": tuple(0.0 if case % 10 == i else draw.random() for _ in range(units)) for i in range(metrics)
        }
        drawn = [draw.choice([0.0, draw.random()]) if i else 1.0 for i in range(metrics)]
        yield columns, {name: weight / math.fsum(drawn) for name, weight in zip(columns, drawn, strict=True)}


def _alike(value: float, other: float) -> bool:
    """Whether two utilities are the same up to rounding; what is no number is another clause's."""
    if finite(value) is None or finite(other) is None:
        return finite(value) is finite(other)
    return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)
