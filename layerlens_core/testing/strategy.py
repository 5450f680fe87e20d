"""What a strategy owes (`layerlens_core.plugin.protocols.Select`), as checks on random problems."""

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import BudgetError, LayerLensError, PlanError
from layerlens_core.plugin.contract import check_decisions
from layerlens_core.plugin.protocols import Context
from layerlens_core.plugin.providers import StrategyProvider
from layerlens_core.testing.chance import seeded
from layerlens_core.testing.check import Check, Failed, common_checks, named, require
from layerlens_core.testing.instances import METHODS, candidates_of, random_inventory, random_problem, random_profile
from layerlens_core.testing.registries import isolated_registry
from layerlens_core.values.candidates import CandidateSet, Unit
from layerlens_core.values.costs import RESOURCES, Limits
from layerlens_core.values.decisions import Decision, Selection
from layerlens_core.values.plan import Plan

#: Problems of each kind that a strategy is held to: its granularities, and the resources that are bounded.
PROBLEMS = 8
#: Bounds of the random problems: each resource alone, all of them, and whatever is drawn.
BOUNDS: tuple[tuple[str, ...] | None, ...] = (*((name,) for name in RESOURCES), RESOURCES, None)
#: What no option takes.
NONSENSE = "no such value"


def check_strategy(
    provider: StrategyProvider, *, module: str | None = None, nonsense: Mapping[str, str] | None = None
) -> list[Check]:
    """The clauses of a strategy's contract, for ``pytest.mark.parametrize("check", …, ids=str)``.

    provider: the record.
    module: where its hooks are; None takes the module of its ``load``.
    nonsense: by option that can read nearly any text, one that it cannot.
    """
    strategy = _Strategy(provider)
    return [
        *common_checks(provider, module),
        Check("covers-the-inventory", strategy.covers),
        Check("is-finite", strategy.is_finite),
        Check("counts-what-it-makes", strategy.counts),
        Check("respects-every-budget", strategy.respects),
        Check("trains-where-everything-fits", strategy.trains),
        Check("is-deterministic", strategy.is_deterministic),
        Check("decides-alike-when-asked-about-one-unit", strategy.agrees),
        Check("leaves-alone-what-has-no-other-candidate", strategy.leaves_alone),
        Check("reads-the-options-it-declares-alone", strategy.reads),
        *(
            [Check("refuses-options-that-it-cannot-read", lambda: strategy.refuses(nonsense or {}))]
            if provider.options
            else []
        ),
        Check("survives-save-and-load", strategy.survives),
    ]


class _Watched(dict[str, str]):
    """Options that remember which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


class _Strategy:
    """One strategy, and what it decides."""

    def __init__(self, provider: StrategyProvider) -> None:
        self._provider = provider
        self._made: list[tuple[str, CandidateSet, Limits, tuple[Decision, ...]]] | None = None

    def covers(self) -> None:
        """Every unit is decided once, and nothing else is."""
        for where, candidates, _, decisions in self._solved():
            names = [decision.unit for decision in decisions]
            for unit in candidates.units:
                require(names.count(unit.name) == 1, f"{where} decides {names.count(unit.name)} times on {unit.name}")
            unknown = sorted(set(names) - set(candidates.by_name))
            require(not unknown, f"{where} decides on {unknown[:1]}, which is no unit")

    def is_finite(self) -> None:
        """Decisions and certificates are of plain, finite numbers and texts; whatever is not, `guarded` raises of."""
        for where, _, _, decisions in self._solved():
            require(all(isinstance(each, Decision) for each in decisions), f"{where} gives what is no Decision")
            for each in decisions:
                require(each.reason.strip(), f"{where} gives no reason for its decision on {each.unit}")

    def counts(self) -> None:
        """Each decision is a candidate of its unit, at its true cost."""
        for where, candidates, _, decisions in self._solved():
            for decision in decisions:
                if (unit := candidates.by_name.get(decision.unit)) is not None:
                    try:
                        check_decisions(
                            [decision], CandidateSet(units=(unit,), methods=candidates.methods), Limits(), where
                        )
                    except LayerLensError as error:
                        raise Failed(str(error)) from error

    def respects(self) -> None:
        """What is decided costs no more than the limits allow; a budget that is refused is not exceeded."""
        refused = problems = 0
        for granularity in self._provider.granularities:
            for where, candidates, limits in _problems():
                problems += 1
                try:
                    decisions = self._decide(candidates, limits, Context(granularity=granularity))
                except BudgetError:
                    refused += 1
                    continue
                spent = candidates.total_of(
                    (unit, unit.cost(decision.method, decision.sizes) if _sized(decision, unit) else decision.cost)
                    for decision in decisions
                    if (unit := candidates.by_name.get(decision.unit)) is not None
                )
                for name in spent.exceeded(limits):
                    require(
                        False,
                        f"{where}: {named(self._provider)} spends {getattr(spent, name):,.10g} {name}, above the limit "
                        f"of {limits.bounds[name]:,.10g}",
                    )
        require(refused < problems, f"{named(self._provider)} refuses every budget, also those that a candidate meets")

    def trains(self) -> None:
        """Something is trained where nothing is bounded, and all units are worth the same."""
        candidates, decisions = self._unbounded()
        spent = candidates.total([each for each in decisions if each.unit in candidates.by_name])
        require(spent.params > 0, f"{named(self._provider)} trains nothing at all where nothing is bounded")

    def is_deterministic(self) -> None:
        """The same problem gives the same decisions, whatever was drawn before."""
        for where, candidates, limits, decisions in self._solved():
            again = self._attempt(candidates, limits, Context(), seed=1)
            require(tuple(decisions) == again, f"{where} decides otherwise when it is asked again")

    def agrees(self) -> None:
        """A unit that is asked about alone is decided as among the others."""
        for where, candidates, limits, decisions in self._solved():
            if not decisions:
                continue
            one = decisions[len(decisions) // 2]
            alone = self._attempt(candidates, limits, Context(only=one.unit))
            found = [(each.method, each.size) for each in alone if each.unit == one.unit]
            require(
                found == [(one.method, one.size)],
                f"{where} decides ({one.method}, {one.size}) on {one.unit}, but {found} where `only` names it",
            )

    def leaves_alone(self) -> None:
        """Units whose one candidate is none, some or all of them, are decided so. (There is always a unit.)"""
        candidates, _ = self._unbounded()
        for every in (1, 2):
            bare = {unit.name for unit in candidates.units[::every]}
            units = tuple(_left_alone(unit) if unit.name in bare else unit for unit in candidates.units)
            some = CandidateSet(units=units, methods=candidates.methods, depths=candidates.depths)
            try:
                found = self._decide(some, Limits(params=1000), Context())
            except LayerLensError as error:
                require(not _is_crash(error), f"where {len(bare)} units can only be left alone: {error}")
                continue
            trained = [each.unit for each in found if each.unit in bare and each.method != "none"]
            require(not trained, f"{named(self._provider)} trains {trained[:1]}, which can only be left alone")

    def reads(self) -> None:
        """Of options, none is asked for that ``--set`` would refuse."""
        candidates, limits = random_problem(1, bounds=("params",))
        options = _Watched()
        self._attempt(candidates, limits, Context(options=options))
        undeclared = sorted(options.asked - set(self._provider.options))
        require(not undeclared, f"{named(self._provider)} reads the option {undeclared[:1]}, which it does not declare")

    def refuses(self, nonsense: Mapping[str, str]) -> None:
        """An option's text that makes no sense is refused by an error of LayerLens's, such as `PlanError`."""
        candidates, limits = random_problem(1, bounds=("params",))
        for option in self._provider.options:
            text = nonsense.get(option, NONSENSE)
            try:
                self._decide(candidates, limits, Context(options={option: text}))
            except LayerLensError as error:
                require(not _is_crash(error), f"{error}; raise a PlanError that says what {option} can be")
            else:
                require(False, f"{named(self._provider)} takes {option}={text!r}")

    def survives(self) -> None:
        """A plan that the strategy makes is the same once it is written and read."""
        name = self._provider.name
        with isolated_registry(self._provider) as registry, tempfile.TemporaryDirectory() as run:
            try:
                plan = allocate(
                    random_profile(2), strategy=name, budget=Budget(), methods=METHODS, registry=registry, margins=False
                )
            except (PlanError, BudgetError):
                return  # it breaks another clause, whose check says which
            plan.save(run)
            require(Plan.load(run) == plan, f"a plan of {named(self._provider)} is another once it is written and read")

    def _solved(self) -> list[tuple[str, CandidateSet, Limits, tuple[Decision, ...]]]:
        """Where it was decided, what was to decide, and the decisions; without budgets that were refused. Made once."""
        if self._made is None:
            made = [
                (f"{where}: {named(self._provider)}", candidates, limits, self._attempt(candidates, limits, Context()))
                for where, candidates, limits in _problems()
            ]
            candidates, decisions = self._unbounded()
            made = [each for each in made if each[-1]]
            self._made = [*made, (f"no bounds: {named(self._provider)}", candidates, Limits(), decisions)]
        return self._made

    def _unbounded(self) -> tuple[CandidateSet, tuple[Decision, ...]]:
        inventory = random_inventory(3, layers=4)
        with isolated_registry() as registry:
            candidates = candidates_of(random_profile(3, inventory=inventory, scores=[1.0] * 4), registry)
        return candidates, self._decide(candidates, Limits(), Context())

    def _attempt(
        self, candidates: CandidateSet, limits: Limits, context: Context, seed: int = 0
    ) -> tuple[Decision, ...]:
        """What is decided; nothing where the budget is refused."""
        try:
            return self._decide(candidates, limits, context, seed)
        except BudgetError:
            return ()

    def _decide(
        self, candidates: CandidateSet, limits: Limits, context: Context, seed: int = 0
    ) -> tuple[Decision, ...]:
        """What is decided, after a draw that tells a strategy which draws itself from one that does not."""
        with seeded(seed), isolated_registry(self._provider) as registry:
            found = registry.load("strategy", self._provider.name)(candidates, limits, context)
        return tuple(found.decisions if isinstance(found, Selection) else found)


def _problems() -> Iterator[tuple[str, CandidateSet, Limits]]:
    for seed in range(PROBLEMS):
        for bounds in BOUNDS:
            candidates, limits = random_problem(seed, bounds=bounds)
            yield f"random_problem({seed}, bounds={bounds})", candidates, limits


def _sized(decision: Decision, unit: Unit) -> bool:
    return set(decision.sizes) == {target.name for target in unit.targets.get(decision.method, ())}


def _left_alone(unit: Unit) -> Unit:
    kept = tuple(candidate for candidate in unit.candidates if candidate.method == "none")
    return attrs.evolve(unit, candidates=kept, targets={"none": ()}, notches={"none": 1})


def _is_crash(error: LayerLensError) -> bool:
    """Whether an error was none of LayerLens's when the plugin raised it."""
    return error.__cause__ is not None and not isinstance(error.__cause__, LayerLensError)
