"""The budget strategy and its rivals on random instances: bounds that hold, optima that are reached."""

import itertools
import random

import attrs
import pytest

from layerlens_builtin.strategies.budget import best_choice
from layerlens_core.allocation import margins
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.allocation.problem import pose
from layerlens_core.errors import BudgetError, LayerLensError, PlanError
from layerlens_core.plugin.protocols import Context
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import Candidate, CandidateSet, Target, Unit
from layerlens_core.values.costs import RESOURCES, Cost, Limits, Training

#: Curves far enough apart that methods share the layers.
APART = {"lora": (1.0, 8.0), "adapter": (0.85, 4.0), "prefix": (0.6, 2.0)}
STRATEGIES = ("threshold", "cost-benefit", "budget")
METHODS = ("none", "adapter", "lora")
TRAINING = Training(batch=1, length=2, dtype="float32")
CEILINGS = {"adapter": (0.7, 2.0), "lora": (1.0, 4.0)}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


def instance(draw: random.Random, units: int, sizes: int) -> CandidateSet:
    """Units with random utilities and prices, deeper ones making the frozen model dearer."""
    tied = draw.random() < 0.3
    depths = [Cost(flops=10.0, memory=20.0)]
    for _ in range(units):
        depths.append(depths[-1] + Cost(flops=draw.uniform(0, 200), memory=draw.uniform(0, 500)))
    made = []
    for index in range(units):
        utility = 0.25 if tied else draw.choice([draw.random(), draw.random() ** 4, 0.0])
        targets = {"none": ()}
        candidates = [Candidate(method="none", size=0, cost=Cost(), gain=0.0)]
        for method, (ceiling, half) in CEILINGS.items():
            target = Target(
                name=f"u{index}.{method}",
                fixed=draw.randrange(0, 5),
                per_size=draw.randrange(1, 20),
                flops=draw.uniform(1, 30),
                kept=draw.uniform(0, 5),
                seconds=draw.uniform(0, 1e-3),
            )
            targets[method] = (target,)
            for size in range(1, draw.randrange(2, sizes + 2)):
                gain = utility * ceiling * size / (size + half)
                candidates.append(Candidate(method=method, size=size, cost=target.cost(size, TRAINING), gain=gain))
        made.append(
            Unit(
                name=f"u{index}",
                utility=utility,
                candidates=tuple(candidates),
                targets=targets,
                notches={"none": 1, "adapter": 1, "lora": 1},
                depth=index,
                training=TRAINING,
            )
        )
    return CandidateSet(units=tuple(made), methods=METHODS, depths=tuple(reversed(depths)))


def random_limits(draw: random.Random, candidates: CandidateSet, bounds: int) -> Limits:
    """One to four bounds, between what the frozen model takes and what everything would."""
    most = candidates.base(0)
    for unit in candidates.units:
        most = most + max((c.cost for c in unit.candidates), key=lambda cost: cost.params)
    chosen = draw.sample(RESOURCES, bounds)
    amounts = {}
    for name in chosen:
        low = getattr(candidates.base(None), name)
        amount = low + draw.random() * (getattr(most, name) - low)
        amounts[name] = int(amount) if name == "params" else amount
    return Limits(**amounts)


def brute_force(candidates: CandidateSet, limits: Limits) -> float:
    """The best sum of gains over every combination that keeps every bound, the depth's cost included."""
    best = 0.0
    for pick in itertools.product(*(unit.candidates for unit in candidates.units)):
        trained = [i for i, c in enumerate(pick) if c.cost.params > 0]
        total = sum((c.cost for c in pick), candidates.base(min(trained, default=None)))
        if total.within(limits):
            best = max(best, sum(c.gain for c in pick))
    return best


@pytest.mark.slow
def test_no_strategy_ever_exceeds_a_budget_at_any_prices(registry):
    # The kit's problems have the prices of layers; these have prices that no layer has.
    draw = random.Random(0)
    selects = {name: registry.load("strategy", name) for name in STRATEGIES}
    trained = dict.fromkeys(STRATEGIES, 0)
    for _ in range(500):
        candidates = instance(draw, draw.randrange(1, 5), 5)
        limits = random_limits(draw, candidates, draw.randrange(1, 5))
        for name, select in selects.items():
            decisions = select(candidates, limits, Context())
            total = candidates.total(decisions)
            assert total.exceeded(limits) == [], (name, limits, total)
            trained[name] += total.params > 0
    # Never exceeding by never spending would not count.
    assert min(trained.values()) > 250


@pytest.mark.slow
def test_exact_is_the_optimum_and_the_certificate_holds_on_five_hundred_instances():
    draw = random.Random(1)
    for _ in range(500):
        candidates = instance(draw, draw.randrange(1, 4), 4)
        limits = random_limits(draw, candidates, draw.randrange(1, 5))
        optimum = brute_force(candidates, limits)
        exact = best_choice(candidates, limits, exact=True)
        quick = best_choice(candidates, limits, exact=False)
        assert exact.value == pytest.approx(optimum, rel=1e-9, abs=1e-12)
        for choice in (exact, quick):
            assert choice.value <= optimum * (1 + 1e-9) + 1e-12
            assert choice.bound >= optimum * (1 - 1e-9) - 1e-12


def test_every_lowest_trained_layer_is_tried():
    # All layers are alike, but only the top one can be trained within the bound on memory.
    draw = random.Random(2)
    candidates = instance(draw, 4, 3)
    units = tuple(attrs.evolve(unit, utility=1.0) for unit in candidates.units)
    depths = tuple(Cost(memory=m) for m in (1e6, 8e5, 6e5, 4e5, 1e2))
    candidates = attrs.evolve(candidates, units=units, depths=depths)
    biggest = max(c.cost.memory for c in units[3].candidates)
    choice = best_choice(candidates, Limits(memory=4e5 + biggest), exact=True)
    assert [c.method for c in choice.candidates[:3]] == ["none"] * 3
    assert choice.candidates[3].method != "none"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "scores",
    [
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        [1e-6] * 5 + [1e6],
        [0.5, 0.5, 0.5, 0.1, 0.1, 0.1],
        [0.0] * 6,
        [3.0],
    ],
    ids=["0-to-1", "one-outlier", "ties", "all-zero", "a-single-layer"],
)
def test_wide_utilities_give_sensible_plans(make_profile, strategy, scores):
    plan = allocate(
        make_profile(scores),
        strategy=strategy,
        budget=Budget(params="r=4"),
        methods=("none", "prefix", "adapter", "lora"),
    )
    assert plan.parameters <= plan.limit
    assert len(plan.decisions) == len(scores)
    if strategy != "cost-benefit":
        assert all(decision.method != "none" for decision in plan.decisions)  # the budget forces nothing
    elif not any(scores):
        assert plan.parameters == 0  # nothing can be gained, so nothing is spent
    else:
        assert plan.parameters > 0
    by_utility: dict[float, set[str]] = {}
    for decision in plan.decisions:
        by_utility.setdefault(decision.utility, set()).add(decision.method)
    if strategy != "threshold":
        assert all(len(methods) == 1 for methods in by_utility.values()), "equal utilities, different methods"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_margin_flips_the_decision_and_less_does_not(make_profile, strategy):
    methods = ("none", "prefix", "adapter", "lora")
    scores = [0.81, 0.07, 0.44, 0.29, 0.98, 0.13]
    arguments = {"strategy": strategy, "budget": Budget(params="r=4"), "methods": methods, "gains": APART}
    plan = allocate(make_profile(scores), margins=True, **arguments)
    assert sum(d.margin is not None for d in plan.decisions) >= 3
    problem = pose(make_profile(scores), plan.request)
    context = Context(options=problem.request.options)
    for decision in plan.decisions:
        if decision.margin is None:
            continue
        for share, flips in ((1.0, True), (0.9, False)):
            utility = decision.utility + share * decision.margin
            units = tuple(
                unit.with_utility(utility) if unit.name == decision.unit else unit for unit in problem.candidates.units
            )
            changed = attrs.evolve(problem.candidates, units=units)
            after = next(d for d in problem.select(changed, problem.limits, context) if d.unit == decision.unit)
            assert (after.method != decision.method) is flips, (decision.unit, share)
            if flips:
                assert decision.runner_up.startswith(after.method)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flips_by_penalty_and_by_budget_are_real(make_profile, strategy):
    methods = ("none", "prefix", "adapter", "lora")
    profile = make_profile([0.81, 0.07, 0.44, 0.29, 0.98, 0.13])
    arguments = {"strategy": strategy, "methods": methods, "gains": APART}
    plan = allocate(profile, budget=Budget(params="r=4"), **arguments)
    problem = pose(profile, plan.request)
    seen = 0
    for decision in plan.decisions:
        found = margins.budget_flips(problem.decide, problem.candidates, problem.limits, decision)
        for flip in found:
            amount = margins.scaled(problem.limits, flip.name, flip.factor).params
            again = allocate(profile, budget=Budget(params=amount), **arguments)
            assert next(d for d in again.decisions if d.unit == decision.unit).method != decision.method
            seen += 1
        for flip in margins.penalty_flips(problem.decide, problem.candidates, problem.limits, decision):
            penalties = {**plan.request.penalties, flip.name: plan.request.penalties[flip.name] * flip.factor}
            again = allocate(profile, budget=Budget(params="r=4"), penalties=penalties, **arguments)
            assert next(d for d in again.decisions if d.unit == decision.unit).method != decision.method
            seen += 1
    assert seen >= (1 if strategy == "threshold" else 4)


def test_penalties_shift_the_choice(make_profile):
    arguments = {"strategy": "budget", "budget": Budget(params="r=4"), "methods": ("lora", "prefix"), "gains": APART}
    profile = make_profile([1, 2, 3, 4, 5, 6])

    def share(**penalties):
        plan = allocate(profile, penalties=penalties, **arguments)
        return sum(d.parameters for d in plan.decisions if d.method == "lora") / plan.parameters

    assert share(lora=0.5) > share(lora=1.0) > share(lora=3.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"penalties": {"lroa": 1.0}}, PlanError, "penalty is given for the method 'lroa'.*Did you mean 'lora'"),
        ({"penalties": {"lora": 0.0}}, PlanError, "finite and above 0"),
        ({"options": {"exact": "maybe"}}, PlanError, "true or false"),
        ({"options": {"exakt": "true"}}, PlanError, "Did you mean 'exact'"),
        ({"budget": Budget(params="100")}, BudgetError, "give at least params=1728"),
        ({"budget": Budget(flops="1k")}, BudgetError, "flops.*give at least flops="),
        ({"budget": Budget(memory="1kB", params="50%")}, BudgetError, "memory.*give at least memory="),
    ],
)
def test_what_cannot_work_is_refused(make_profile, arguments, error, message):
    with pytest.raises(error, match=message):
        allocate(make_profile([1, 2, 3]), **{"strategy": "budget", **arguments})


def test_the_least_that_a_refusal_names_is_enough(make_profile):
    profile = make_profile([1, 2, 3])
    for budget in (Budget(flops="1k"), Budget(memory="1kB"), Budget(params=1)):
        with pytest.raises(LayerLensError) as caught:
            allocate(profile, strategy="budget", budget=budget)
        advice = str(caught.value).rsplit("give at least ", 1)[1]
        assert allocate(profile, strategy="budget", budget=Budget.parse([advice])).parameters > 0


def test_the_plan_carries_its_certificate(make_profile, tmp_path):
    profile = make_profile([0.81, 0.07, 0.44, 0.29, 0.98, 0.13])
    plan = allocate(profile, strategy="budget", budget=Budget(params="r=4"), margins=False)
    assert plan.certificate.value == pytest.approx(plan.certificate.bound)
    assert plan.certificate.gap == pytest.approx(0.0)
    quick = allocate(profile, strategy="budget", budget=Budget(params="r=4"), options={"exact": "false"}, margins=False)
    assert quick.certificate.value <= plan.certificate.value <= quick.certificate.bound * (1 + 1e-12)
    plan.save(tmp_path)
    assert type(plan).load(tmp_path) == plan
    assert allocate(profile, margins=False).certificate is None


def test_a_certificate_holds_where_highs_runs_out_of_time_without_a_plan(monkeypatch):
    import scipy.optimize

    candidates = instance(random.Random(5), 3, 3)
    limits = Limits(params=30, latency=1e-3)
    optimum = brute_force(candidates, limits)
    assert optimum > 0
    out_of_time = scipy.optimize.OptimizeResult(x=None, status=1, mip_dual_bound=None)
    monkeypatch.setattr(scipy.optimize, "milp", lambda *_args, **_options: out_of_time)
    choice = best_choice(candidates, limits, exact=True)
    assert choice.value <= optimum <= choice.bound
    assert [c.method for c in choice.candidates] == ["none"] * 3


def test_layers_are_frozen_only_where_that_is_forced_or_asked_for(make_profile):
    profile = make_profile([0.001, 1, 1, 1000])
    frozen = {
        (budget, options): sum(
            decision.method == "none"
            for decision in allocate(
                profile, strategy="budget", budget=budget, options=dict(options), margins=False
            ).decisions
        )
        for budget in ("params=r=2", "params=3456")
        for options in ((), (("freeze", "true"),))
    }
    assert frozen["params=r=2", ()] == 0
    assert frozen["params=r=2", (("freeze", "true"),)] > 0
    assert frozen["params=3456", ()] >= 2
    with pytest.raises(PlanError, match="the option 'freeze' is true or false"):
        allocate(profile, strategy="budget", options={"freeze": "maybe"})
