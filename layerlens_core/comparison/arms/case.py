"""What a rule makes an arm from: a profile, a plan, one budget and a seed."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs
from attrs import field, frozen

from layerlens_core.allocation.allocate import DEFAULT_STRATEGY, plan_for
from layerlens_core.allocation.problem import pose
from layerlens_core.comparison.arms.budgets import bounds_at, budget_of, is_own
from layerlens_core.comparison.arms.ground import Ground, Sizes
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.comparison import Arm, Start, Tuner
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.request import Request

_Item = TypeVar("_Item")

#: EVA's rank of each module where uniform LoRA has this one: `layerlens_core.comparison.arms.eva.eva_ranks` of a model.
EvaRanks = Callable[[int], Mapping[str, int]]


@frozen(kw_only=True, eq=False)
class Case:
    """One budget of a comparison, and everything that its arms follow from.

    profile: of the model.
    plan: of the run.
    budget: as it is typed.
    seed: of what rules draw.
    registry: of providers.
    eva: EVA's ranks, where a model was given to find them with.
    """

    profile: Profile
    plan: Plan
    budget: str
    seed: int
    registry: Registry
    eva: EvaRanks | None = None
    _grounds: dict[tuple[str, ...], Ground] = field(factory=dict, init=False)
    _plans: dict[str, Plan] = field(factory=dict, init=False)

    @property
    def texts(self) -> tuple[str, ...]:
        """The budget as requests hold it."""
        return tuple(budget_of(self.budget).texts())

    def ground(self, *methods: str) -> Ground:
        """Places, costs and limits of these methods at this budget, for the training step of the plan.

        Raises what `layerlens_core.allocation.problem.pose` raises, `BudgetError` for one that allows nothing.
        """
        if methods not in self._grounds:
            self._grounds[methods] = ground_for(self.profile, self.plan.request, self.texts, methods, self.registry)
        return self._grounds[methods]

    def planned(self) -> Plan:
        """The run's plan at its own budget; at another what the same request gives with that budget."""
        return self.plan if is_own(self.plan, self.texts) else self.plan_of(self.plan.request)

    def plan_of(self, request: Request) -> Plan:
        """The plan of a request at this budget, and within the run's other bounds where this is one of parameters.

        Raises what `layerlens_core.allocate` raises.
        """
        request = attrs.evolve(request, budget=bounds_at(self.plan, self.texts))
        key = repr(request)
        if key not in self._plans:
            self._plans[key] = plan_for(self.profile, attrs.evolve(request, margins=False), registry=self.registry)
        return self._plans[key]

    def drawn(self, rule: str, items: Sequence[_Item]) -> list[_Item]:
        """These items in an order that follows from the seed and the rule's name.

        rule: name of what draws, so that rules do not draw alike.
        items: in a fixed order.
        """
        generator = random.Random(f"{rule} {self.seed}")
        # random() alone is promised to stay the same in later versions of Python.
        keys = [generator.random() for _ in items]
        return [items[at] for at in sorted(range(len(items)), key=keys.__getitem__)]

    def arm(
        self,
        sizes: Sizes,
        reason: str,
        *,
        start: Start = "random",
        tuner: Tuner = "layerlens",
        subspace: str = "",
    ) -> Arm:
        """An arm of these sizes, counted exactly.

        sizes: by method and place.
        reason: how they came about.
        start: how LoRA starts.
        tuner: who trains it.
        subspace: of its cores.
        """
        kept = {method: {name: size for name, size in of.items() if size} for method, of in sizes.items()}
        kept = {method: of for method, of in kept.items() if of}
        cost = self.ground(*kept).cost(kept)
        return Arm(
            name="",
            budget=self.budget,
            sizes=kept,
            scale=float(self.plan.scale),
            parameters=cost.params,
            start=start,
            tuner=tuner,
            # Without measured activations what is known of memory is the weights alone.
            memory=cost.memory if self.profile.activations else 0.0,
            reason=reason,
            subspace=subspace,
        )


def ground_for(
    profile: Profile, request: Request, budget: Sequence[str], methods: Sequence[str], registry: Registry
) -> Ground:
    """Places, costs and limits of these methods.

    profile: of the model.
    request: whose weights, training step and scale count; its strategy does not.
    budget: as requests hold it.
    methods: that sizes are wanted for.
    registry: of providers.
    """
    # A rule decides by itself, so that no strategy has to, not even for whether it would abstain.
    plain = attrs.evolve(with_strategy(request, DEFAULT_STRATEGY), abstain=False)
    own = attrs.evolve(plain, budget=tuple(budget), methods=tuple(methods), penalties={})
    return Ground(problem=pose(profile, own, registry), profile=profile, registry=registry)


def with_strategy(request: Request, strategy: str) -> Request:
    """What a request asks for, of another strategy: all but what belongs to its own strategy alone.

    request: of a plan.
    strategy: name of a provider.
    """
    return attrs.evolve(request, strategy=strategy, options={}, granularity=None, abstain=None)
