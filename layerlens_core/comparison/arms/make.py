"""Arms by name: rules of our own and of peers, and any strategy, metric, method or start of any plugin."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
from attrs import frozen

from layerlens_core.comparison.arms import cores, peers, uniform
from layerlens_core.comparison.arms.budgets import budget_of
from layerlens_core.comparison.arms.case import Case, EvaRanks, with_strategy
from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.comparison.arms.of_plan import arm_of_plan
from layerlens_core.comparison.arms.shuffled import shuffled
from layerlens_core.errors import BudgetError, PlanError, PluginError, brief, nearest
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.values.comparison import Arm, Job, Schedule, Start
from layerlens_core.values.plan import CORE, LORA_METHODS, Plan
from layerlens_core.values.profile import Profile

#: Makes an arm at one budget; `Unfit`, or an error of budgets and plans, says why there is none.
Rule = Callable[[Case], Arm]


@frozen(kw_only=True)
class Dropped:
    """An arm that cannot be at a budget.

    name: of the arm.
    budget: as it is typed.
    reason: in words.
    """

    name: str
    budget: str
    reason: str


def make_arms(
    names: Sequence[str],
    budgets: Sequence[str],
    *,
    profile: Profile,
    plan: Plan,
    seed: int = 0,
    registry: Registry | None = None,
    eva: EvaRanks | None = None,
) -> tuple[tuple[Arm, ...], tuple[Dropped, ...]]:
    """The arms of a comparison, budget by budget, and those that had to be dropped.

    A name is that of a rule (`RULES`) or of a strategy; ``strategy:NAME``, ``metric:NAME`` or ``method:NAME`` of any
    provider; with ``+gradient``, ``+by-rank`` or ``+random`` behind it, that arm with LoRA started so. No arm exceeds
    its budget, except ``full``, of which the budget's parameters hold none. Two arms that train the same are both kept,
    and the later one's reason says so. ``none`` is there once, at the first budget.

    names: of the arms; each once.
    budgets: as `Budget.parse` reads them, or ``r=4`` for ``params=r=4``.
    profile: of the run.
    plan: of the run.
    seed: of what rules draw.
    registry: of providers; by default those that are installed, and what `register` added.
    eva: gives EVA's ranks, by module, at the rank of uniform LoRA; without it the arm ``eva`` is dropped.

    Raises `PluginError` for a name that nothing has, `BudgetError` for a budget that cannot be read, and `PlanError`
    for a plan that was not made from this profile.
    """
    registry = default() if registry is None else registry
    plan.check_profile(profile)
    rules = {name: rule_of(name, profile, registry) for name in dict.fromkeys(names)}
    for budget in budgets:
        budget_of(budget)
    arms: list[Arm] = []
    dropped: list[Dropped] = []
    for budget in dict.fromkeys(budgets):
        case = Case(profile=profile, plan=plan, budget=budget, seed=seed, registry=registry, eva=eva)
        for name, rule in rules.items():
            if name == uniform.NOTHING and any(arm.name == name for arm in arms):
                continue  # it takes nothing of any budget, so that once is enough
            try:
                arms.append(attrs.evolve(rule(case), name=name))
            except (Unfit, BudgetError, PlanError) as error:
                dropped.append(Dropped(name=name, budget=budget, reason=brief(error)))
    return _with_twins_named(arms), tuple(dropped)


def rule_of(name: str, profile: Profile, registry: Registry) -> Rule:
    """The rule that an arm's name stands for. Raises `PluginError` for a name that nothing has."""
    base, plus, start = name.rpartition("+")
    if base == CORE and start in cores.SOURCES:
        return partial(cores.of_source, start)
    if plus:
        if start not in _STARTS:
            starts = list(_STARTS)
            raise PluginError(
                f"no start of LoRA is named {start!r}, as in the arm {name!r}; there are: {', '.join(starts)}."
                f"{nearest(start, starts)}"
            )
        return _started(rule_of(base, profile, registry), start)  # type: ignore[arg-type]
    kind, colon, provider = name.partition(":")
    if colon and kind in _BY_KIND:
        return _BY_KIND[kind](provider, profile, registry)
    if name in RULES:
        return RULES[name]
    if name in registry.names("strategy"):
        return _of_strategy(name, profile, registry)
    known = [*RULES, *registry.names("strategy")]
    raise PluginError(
        f"no arm is named {name!r}; there are: {', '.join(dict.fromkeys(known))}, and strategy:NAME, metric:NAME, "
        "method:NAME, each with +gradient or +by-rank where LoRA is to start so; and "
        f"{', '.join(f'{CORE}+{source}' for source in cores.SOURCES)}.{nearest(name, known)}"
    )


def planned(case: Case) -> Arm:
    """The run's plan, at another budget as the same request gives it there."""
    return _counted(case, case.planned())


def _of_strategy(name: str, profile: Profile, registry: Registry) -> Rule:
    """The plan of a strategy: the run's request with that strategy, at its defaults unless it is the run's own."""
    registry.get("strategy", name)

    def rule(case: Case) -> Arm:
        own = case.plan.request
        if name == own.strategy:
            return planned(case)
        return _counted(case, case.plan_of(with_strategy(own, name)))

    return rule


def _of_metric(name: str, profile: Profile, registry: Registry) -> Rule:
    """The plan that the run's request gives with all weight on one metric."""
    profiled = [scores.metric for scores in profile.scores]
    if name not in profiled:
        registry.get("metric", name)

    def rule(case: Case) -> Arm:
        if name not in profiled:
            raise Unfit(
                f"the profile holds no scores of {name}, but of {', '.join(profiled)}; profile again with "
                f"--metrics {name}"
            )
        weights = {metric: float(metric == name) for metric in profiled}
        return _counted(case, case.plan_of(attrs.evolve(case.plan.request, weights=weights)))

    return rule


def _of_method(name: str, profile: Profile, registry: Registry) -> Rule:
    """One method uniformly in all layers."""
    provider = registry.get("method", name)

    def rule(case: Case) -> Arm:
        if not provider.applicable:
            raise Unfit(f"{name} cannot be applied, so that it cannot be trained")
        return uniform.of_method(case, name)

    return rule


def _started(rule: Rule, start: Start) -> Rule:
    """The same arm with LoRA started otherwise."""

    def started(case: Case) -> Arm:
        arm = rule(case)
        if start == "gradient" and case.profile.directions is None:
            raise Unfit("the profile holds no directions to start along; profile again with --directions")
        if arm.tuner != "layerlens" or not (LORA_METHODS - {CORE}).intersection(arm.sizes):
            raise Unfit("it holds no LoRA whose start could be chosen")
        return attrs.evolve(arm, start=start, reason=f"{arm.reason}; LoRA starts {_STARTS[start]}")

    return started


def _counted(case: Case, plan: Plan) -> Arm:
    arm = arm_of_plan(plan, "", case.budget)
    return arm if case.profile.activations else attrs.evolve(arm, memory=0.0)


def _with_twins_named(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms, where one trains what an earlier one does with its name in the reason."""
    first: dict[str, Arm] = {}
    result = []
    for arm in arms:
        job = Job(arm=arm, rate=0.0, seed=0, schedule=Schedule(steps=1, batch=1), setting="")
        twin = first.setdefault(job.id, arm)
        result.append(arm if twin is arm else attrs.evolve(arm, reason=f"{arm.reason}; it trains what {twin.key} does"))
    return tuple(result)


_STARTS: Mapping[Start, str] = {
    "random": "as PEFT draws it",
    "gradient": "along the profiled gradient",
    "by-rank": "as PEFT draws it, times (mean rank / rank)^¼",
}
_BY_KIND: Mapping[str, Callable[[str, Profile, Registry], Rule]] = {
    "strategy": _of_strategy,
    "metric": _of_metric,
    "method": _of_method,
}

#: Rules by name. The first line of each one's docstring says what it trains.
RULES: Mapping[str, Rule] = {
    "plan": planned,
    "uniform": uniform.uniform,
    "none": uniform.nothing,
    "shuffled": shuffled,
    "mlp-only": uniform.mlp_only,
    "attention-only": uniform.attention_only,
    "top-half": uniform.top_half,
    "random-half": uniform.random_half,
    "dominant": uniform.dominant,
    "dominant-type": uniform.dominant_type,
    CORE: partial(cores.of_source, ""),
    "gora": peers.gora,
    "eva": peers.eva,
    "adalora": peers.adalora,
    "lora-ga": peers.lora_ga,
    "full": peers.full,
}
