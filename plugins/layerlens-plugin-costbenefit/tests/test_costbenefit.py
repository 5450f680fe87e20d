"""The strategy against what its documentation says, a slow reference, and brute force."""

import itertools
from fractions import Fraction

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import layerlens_core as ll
from layerlens_builtin.methods.lora import METHOD as LORA
from layerlens_core.plugin import (
    RESOURCES,
    Candidate,
    CandidateSet,
    Context,
    Cost,
    Inventory,
    Layer,
    Limits,
    LinearModule,
    PlanError,
    RawScores,
    Target,
    Training,
    Unit,
    check_decisions,
    coverage,
)
from layerlens_plugin_costbenefit.strategy import select

# --- instances ----------------------------------------------------------------------------------------------------

#: Exact in binary, and coarse, so that ties and straight stretches do occur.
gains = st.integers(-4, 24).map(lambda n: n / 8)
weights = st.integers(0, 24).map(lambda n: n / 8)

#: One token a step and no optimizer state: a parameter takes 8 bytes, a kept value 4.
STEP = Training(batch=1, length=1, optimizer="sgd", dtype="float32")


def unit(name, *, rank=(), width=(), per_rank=4, per_width=3, bias=2, utility=None, depth=0, lora=None, adapter=None):
    """A unit with LoRA candidates of ranks 1, 2 … and adapters of widths 1, 2 …, from their gains.

    lora, adapter: what else a unit of size costs, as fields of `Target`.
    """
    targets = {
        "none": (),
        "adapter": (Target(name=f"{name}.out", fixed=bias, per_size=per_width, **(adapter or {})),),
        "lora": (Target(name=f"{name}.w", fixed=0, per_size=per_rank, **(lora or {})),),
    }
    candidates = [Candidate(method="none", size=0, cost=Cost(), gain=0.0)]
    for method, column in (("adapter", width), ("lora", rank)):
        (target,) = targets[method]
        for size, gain in enumerate(column, start=1):
            candidates.append(Candidate(method=method, size=size, cost=target.cost(size, STEP), gain=gain))
    return Unit(
        name=name,
        utility=max(candidate.gain for candidate in candidates) if utility is None else utility,
        candidates=tuple(candidates),
        targets=targets,
        notches=dict.fromkeys(targets, 1),
        depth=depth,
        training=STEP,
    )


def lora_units(*utilities, ranks=16, per_rank=4, **others):
    """Units as LayerLens builds them: LoRA whose gain is the utility times the coverage of the rank."""
    return candidate_set(
        (
            unit(
                f"L{i}",
                rank=[utility * coverage(LORA, rank) for rank in range(1, ranks + 1)],
                per_rank=per_rank,
                utility=utility,
                depth=i,
                lora=others,
            )
            for i, utility in enumerate(utilities)
        )
    )


def candidate_set(units, depths=()):
    return CandidateSet(units=tuple(units), methods=("none", "adapter", "lora"), depths=tuple(depths))


others = st.fixed_dictionaries(
    {
        "flops": st.integers(0, 9).map(float),
        "kept": st.integers(0, 9).map(float),
        "seconds_fixed": st.integers(0, 3).map(lambda n: n / 8),
        "seconds": st.integers(0, 9).map(lambda n: n / 8),
    }
)


@st.composite
def instances(draw, units=4, sizes=4, copies=1, resources=False, deep=False):
    """Units of different utility, with copies of each: of equal utility, costs and gains.

    resources: they cost FLOPs, memory and latency too. deep: and so does the frozen model, the more the deeper.
    """
    made = []
    for i in range(draw(st.integers(1, units))):
        original = unit(
            "original",
            rank=draw(st.lists(gains, max_size=sizes)),
            width=draw(st.lists(gains, max_size=sizes)),
            per_rank=draw(st.integers(1, 9)),
            per_width=draw(st.integers(1, 9)),
            bias=draw(st.integers(0, 9)),
            lora=draw(others) if resources else None,
            adapter=draw(others) if resources else None,
        )
        made += [attrs.evolve(original, utility=original.utility + i / 64)] * draw(st.integers(1, copies))
    made = draw(st.permutations(made))
    depths = []
    if deep:
        steps = st.builds(lambda f, m: Cost(flops=float(f), memory=float(m)), st.integers(0, 30), st.integers(0, 90))
        depths = [Cost(flops=10.0, memory=40.0)]
        for _ in made:
            depths.insert(0, depths[0] + draw(steps))
    return candidate_set((_named(each, i) for i, each in enumerate(made)), depths)


def _named(original, index):
    """The unit under a name of its own, and in its place."""
    name = f"L{index}"
    targets = {
        method: tuple(attrs.evolve(t, name=t.name.replace(original.name, name)) for t in places)
        for method, places in original.targets.items()
    }
    return attrs.evolve(original, name=name, depth=index, targets=targets)


limits = st.one_of(st.none(), st.integers(1, 150)).map(lambda n: Limits(params=n))
several_limits = st.builds(
    Limits,
    params=st.none() | st.integers(1, 150),
    flops=st.none() | st.integers(0, 600).map(float),
    memory=st.none() | st.integers(0, 1500).map(float),
    latency=st.none() | st.integers(0, 80).map(lambda n: n / 8),
)
several_weights = st.fixed_dictionaries(dict.fromkeys(("utility", "cost", "flops", "memory", "latency"), weights))


def decide(candidates, bounds=Limits(), **options):  # noqa: B008 - frozen
    """The decisions, held to the contract that every strategy has to meet."""
    context = Context(options={name: str(value) for name, value in options.items()})
    return check_decisions(select(candidates, bounds, context), candidates, bounds, "cost-benefit")


def chosen(candidates, decisions):
    """The candidate behind every decision."""
    return [
        next(c for c in unit.candidates if (c.method, c.size) == (decision.method, decision.size))
        for unit, decision in zip(candidates.units, decisions, strict=True)
    ]


def spent(decisions):
    return sum(decision.parameters for decision in decisions)


def dearest(candidates):
    return sum(max(c.parameters for c in unit.candidates) for unit in candidates.units)


def most_gain(candidates):
    return sum(max(Fraction(c.gain) for c in unit.candidates) for unit in candidates.units)


# --- references: slow, obvious and exact ---------------------------------------------------------------------------


def ratio(low, high):
    return Fraction(high.gain - low.gain) / (high.parameters - low.parameters)


def next_on_hull(unit, at):
    """The candidate towards which gain rises most steeply from here; of several on one line, the nearest."""
    # Nothing that is free can gain: every candidate but ``none`` has parameters here.
    higher = [c for c in unit.candidates if c.parameters > at.parameters and c.gain > at.gain]
    # Among equals the first one listed: methods ascend in capacity.
    return max(higher, key=lambda c: (ratio(at, c), -c.parameters), default=None)


def reference(candidates, bounds, utility, cost):
    """The documented rule for parameters alone, one step at a time, in fractions."""
    free = _take(candidates, bounds, lambda gain, price: 1)
    best = sum(Fraction(c.gain) for c in free)
    whole = bounds.params if bounds.params is not None else dearest(candidates)

    def net(gain, price):
        if not best or not utility:
            return -1
        worth = Fraction(utility) * gain / best - Fraction(cost) * price / whole
        assume(abs(worth) > 1e-12)  # a draw is settled by rounding; there is an example of it below
        return worth

    return _take(candidates, bounds, net)


def _take(candidates, bounds, net):
    units = candidates.units
    at = [next(c for c in unit.candidates if c.method == "none") for unit in units]
    left = bounds.params if bounds.params is not None else dearest(candidates)
    open_units = set(range(len(at)))
    stuck = set()  # utilities of which a unit could not afford a step: their units keep their methods
    while True:
        steps = []
        for i in sorted(open_units):
            following = next_on_hull(units[i], at[i])
            if following is not None:
                order = (-ratio(at[i], following), following.parameters, -units[i].utility)
                steps.append((*order, str(at[i]), str(following), i, following))
        if not steps:
            return at
        *_, i, following = min(steps, key=lambda step: step[:-1])
        utility = units[i].utility
        price = following.parameters - at[i].parameters
        changes = following.method != at[i].method
        alike = [j for j in open_units if units[j].utility == utility and at[j].parameters == at[i].parameters]
        if net(Fraction(following.gain - at[i].gain), price) <= 0 or (changes and utility in stuck):
            open_units.discard(i)
        elif price * (len(alike) if changes else 1) > left:
            open_units.discard(i)
            stuck.add(utility)
        else:
            at[i], left = following, left - price


def objective(candidates, plan, bounds, **given):
    """Of the documentation, for a budget that does not bind: then all gain could be bought."""
    best = most_gain(candidates)
    trained = [unit.depth for unit, c in zip(candidates.units, plan, strict=True) if c.parameters > 0]
    total = sum((c.cost for c in plan), candidates.base(min(trained, default=None)))
    result = Fraction(given["utility"]) * sum(Fraction(c.gain) for c in plan) / best if best else Fraction(0)
    for name in RESOURCES:
        deepest = max((getattr(base, name) for base in candidates.depths), default=0)
        most = deepest + sum(max(getattr(c.cost, name) for c in unit.candidates) for unit in candidates.units)
        if whole := bounds.bounds.get(name, most):
            used = Fraction(getattr(total, name)) - Fraction(getattr(candidates.base(None), name))
            result -= Fraction(given.get("cost" if name == "params" else name, 0)) * used / Fraction(whole)
    return result


# --- properties ---------------------------------------------------------------------------------------------------


@given(instances(copies=3), limits, weights, weights)
def test_the_limit_is_never_exceeded(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    if bounds.params is not None:
        assert spent(decisions) <= bounds.params


@given(instances(copies=2, resources=True, deep=True), several_limits, several_weights)
def test_none_of_several_limits_is_ever_exceeded(candidates, bounds, given_weights):
    assume(candidates.base(None).within(bounds))
    decisions = decide(candidates, bounds, **given_weights)
    total = candidates.total(decisions)
    for name, bound in bounds.bounds.items():
        assert getattr(total, name) <= bound


@given(instances(copies=3), limits, weights, weights)
def test_decisions_are_those_of_the_slow_reference(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    expected = reference(candidates, bounds, utility, cost)
    got = chosen(candidates, decisions)
    assert [(c.parameters, c.gain) for c in got] == [(c.parameters, c.gain) for c in expected]


@given(instances(), limits, weights, weights)
def test_every_choice_lies_on_the_upper_hull(candidates, bounds, utility, cost):
    picks = chosen(candidates, decide(candidates, bounds, utility=utility, cost=cost))
    for unit_, pick in zip(candidates.units, picks, strict=True):
        assert not any(c.parameters <= pick.parameters and c.gain > pick.gain for c in unit_.candidates)
        for low, high in itertools.product(unit_.candidates, repeat=2):
            if low.parameters < pick.parameters < high.parameters:
                chord = Fraction(low.gain) + ratio(low, high) * (pick.parameters - low.parameters)
                assert Fraction(pick.gain) >= chord


@given(instances(), limits)
def test_free_of_cost_weight_it_spends_until_no_step_fits_or_gains(candidates, bounds):
    decisions = decide(candidates, bounds, cost=0)
    left = (bounds.params if bounds.params is not None else dearest(candidates)) - spent(decisions)
    for unit_, pick in zip(candidates.units, chosen(candidates, decisions), strict=True):
        following = next_on_hull(unit_, pick)
        assert following is None or following.parameters - pick.parameters > left


@given(instances())
def test_free_of_cost_weight_and_budget_every_unit_gets_its_best(candidates):
    picks = chosen(candidates, decide(candidates, cost=0))
    assert [pick.gain for pick in picks] == [max(c.gain for c in unit_.candidates) for unit_ in candidates.units]


@given(instances(copies=3), limits, weights, st.tuples(weights, weights))
def test_a_higher_cost_weight_never_spends_more(candidates, bounds, utility, costs):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for cost in sorted(costs))
    assert spent(high) <= spent(low)
    for dear, cheap in zip(high, low, strict=True):
        assert dear.parameters <= cheap.parameters


@given(instances(copies=3), limits, weights, st.tuples(weights, weights))
def test_a_higher_utility_weight_never_spends_less(candidates, bounds, cost, utilities):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for utility in sorted(utilities))
    assert spent(low) <= spent(high)


@given(instances(units=3, sizes=3), st.integers(0, 50) | st.none(), weights, weights)
@settings(max_examples=60)
def test_no_plan_has_a_higher_objective_where_the_budget_does_not_bind(candidates, slack, utility, cost):
    bounds = Limits(params=max(1, dearest(candidates) + slack) if slack is not None else None)
    plan = chosen(candidates, decide(candidates, bounds, utility=utility, cost=cost))
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(objective(candidates, other, bounds, utility=utility, cost=cost) for other in plans)
    assert objective(candidates, plan, bounds, utility=utility, cost=cost) == best


@given(instances(units=3, sizes=2, resources=True, deep=True), several_weights)
@settings(max_examples=60)
def test_no_plan_has_a_higher_objective_where_every_resource_is_weighed(candidates, given_weights):
    plan = chosen(candidates, decide(candidates, **given_weights))
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(objective(candidates, other, Limits(), **given_weights) for other in plans)
    # What costs nothing of what is weighed is ordered by parameters, at a price of a thousand-millionth.
    assert objective(candidates, plan, Limits(), **given_weights) == pytest.approx(best, abs=1e-7)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4, unique=True), st.integers(1, 60))
@settings(max_examples=60)
def test_under_a_budget_the_loss_against_brute_force_is_less_than_one_step(utilities, budget):
    """The greedy bound: what is missing to the optimum is at most the first step that did not fit."""
    candidates = lora_units(*utilities, ranks=4)
    plan = chosen(candidates, decide(candidates, Limits(params=budget), cost=0))
    gain = sum(c.gain for c in plan)
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(sum(c.gain for c in other) for other in plans if sum(c.parameters for c in other) <= budget)
    steps = [following.gain - at.gain for at, following in _following(candidates, plan)]
    assert gain <= best + 1e-12
    assert best <= gain + max(steps, default=0.0) + 1e-12


def _following(candidates, plan):
    for unit_, at in zip(candidates.units, plan, strict=True):
        following = next_on_hull(unit_, at)
        if following is not None:
            yield at, following


@given(st.integers(1, 6), st.integers(1, 16), st.integers(0, 3))
def test_equal_utilities_give_equal_decisions_where_the_budget_allows(units, rank, left_over):
    candidates = lora_units(*[0.5] * units, per_rank=4)
    decisions = decide(candidates, Limits(params=units * rank * 4 + left_over), cost=0)
    assert [(decision.method, decision.size) for decision in decisions] == [("lora", rank)] * units


@given(st.integers(2, 6), st.integers(4, 300))
def test_equal_utilities_never_differ_by_more_than_one_step(units, budget):
    decisions = decide(lora_units(*[0.5] * units), Limits(params=budget), cost=0)
    sizes = [decision.size for decision in decisions]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert len({decision.method for decision in decisions}) == 1
    assert {decision.method for decision in decisions} == ({"lora"} if budget >= units * 4 else {"none"})


@given(st.integers(2, 5), st.integers(1, 4))
def test_equal_units_grow_together_even_where_every_rank_gains_the_same(units, rank):
    straight = candidate_set(unit(f"L{i}", rank=[0.25, 0.5, 0.75, 1.0]) for i in range(units))
    decisions = decide(straight, Limits(params=units * rank * 4), cost=0)
    assert [decision.size for decision in decisions] == [rank] * units


def _methods_by_utility(candidates, decisions):
    methods = {}
    for unit_, decision in zip(candidates.units, decisions, strict=True):
        methods.setdefault(unit_.utility, set()).add(decision.method)
    return methods.values()


@given(instances(units=2, copies=4), limits, weights, weights)
def test_equal_utilities_always_give_equal_methods(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    assert all(len(methods) == 1 for methods in _methods_by_utility(candidates, decisions))


@given(instances(units=2, copies=4, resources=True), several_limits, several_weights)
def test_equal_utilities_always_give_equal_methods_under_several_limits(candidates, bounds, given_weights):
    decisions = decide(candidates, bounds, **given_weights)
    assert all(len(methods) == 1 for methods in _methods_by_utility(candidates, decisions))


# --- examples -----------------------------------------------------------------------------------------------------


def test_a_straight_gain_is_spent_rank_by_rank():
    """The hull of a straight line has two corners; a step between them would not fit, and nothing would be spent."""
    straight = candidate_set([unit("L0", rank=[0.25, 0.5, 0.75, 1.0], per_rank=10)])
    (decision,) = decide(straight, Limits(params=35), cost=0)
    assert decision.size == 3


def test_a_useful_unit_gets_more_than_a_useless_one():
    decisions = decide(lora_units(0.6, 0.3, 0.1), Limits(params=60))
    sizes = [decision.size for decision in decisions]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_a_step_that_loses_on_its_own_is_taken_on_the_way_to_one_that_pays():
    """Rank 1 gives nothing, rank 2 a lot: the hull goes straight to rank 2."""
    (decision,) = decide(candidate_set([unit("L0", rank=[0.0, 1.0])]), cost=0.5)
    assert (decision.method, decision.size) == ("lora", 2)


def test_of_two_methods_the_one_with_more_gain_a_parameter():
    two = candidate_set([unit("L0", rank=[0.5], per_rank=4, width=[0.5], per_width=5, bias=3)])
    (decision,) = decide(two, cost=0)
    assert decision.method == "lora"
    assert decision.parameters == 4


@pytest.mark.parametrize("bounds", [Limits(), Limits(params=1_000)])
@pytest.mark.parametrize("cost", [0, 0.5])
def test_utilities_that_are_all_zero_train_nothing_and_say_why(bounds, cost):
    decisions = decide(lora_units(0.0, 0.0, 0.0), bounds, cost=cost)
    assert [decision.method for decision in decisions] == ["none"] * 3
    assert {decision.reason for decision in decisions} == {
        "no candidate is worth its cost; nothing larger gains more; "
        "all utilities are equal, so all layers get one method",
    }


def test_a_negative_utility_is_never_trained():
    decisions = decide(lora_units(0.5, -0.5), cost=0)
    assert [decision.method for decision in decisions] == ["lora", "none"]


def test_a_utility_weight_of_zero_trains_nothing():
    decisions = decide(lora_units(0.5, 0.5), utility=0)
    assert [decision.method for decision in decisions] == ["none", "none"]


def test_the_reason_says_what_stopped_it_the_budget():
    (decision,) = decide(lora_units(1.0, per_rank=10), Limits(params=25), cost=0.5)
    assert (decision.size, decision.parameters) == (2, 20)
    # The budget buys two ranks, and all gain is measured against theirs.
    worth = 1 - coverage(LORA, 1) / coverage(LORA, 2)
    assert decision.reason == (
        f"the last step's gain is worth {worth:.3g} and its cost {0.5 * 10 / 25:.3g}; "
        "stopped before lora of size 3: it does not fit into what is left of params"
    )
    assert decision.runner_up == "lora of size 3"


def test_the_reason_names_every_limit_that_stopped_it():
    candidates = lora_units(1.0, per_rank=10, flops=2.0, seconds=0.25)
    (decision,) = decide(candidates, Limits(params=29, flops=17.0, memory=1e6, latency=0.5), cost=0)
    assert (decision.size, decision.cost) == (2, Cost(params=20, flops=12.0, memory=160.0, latency=0.5))
    assert decision.reason.endswith("it does not fit into what is left of params and flops and latency")


def test_the_reason_says_that_a_method_is_for_all_layers_of_equal_utility():
    decisions = decide(lora_units(0.5, 0.5, 0.5), Limits(params=11), cost=0)
    assert [decision.method for decision in decisions] == ["none"] * 3
    assert {decision.reason for decision in decisions} == {
        "no candidate is worth its cost; stopped before lora of size 1: "
        "it does not fit into what is left of params for all 3 layers of equal utility; "
        "all utilities are equal, so all layers get one method"
    }


def test_the_reason_says_what_stopped_it_the_cost():
    # Two ranks of 8 parameters; without a budget, rank 2 (16) is the whole, and its gain all that could be bought.
    (decision,) = decide(candidate_set([unit("L0", rank=[0.75, 1.0], per_rank=8)]), cost=0.5)
    assert decision.size == 1  # 0.75 > 0.25; the second step gains 0.25, which is not above 0.25
    assert decision.reason == (
        "the last step's gain is worth 0.75 and its cost 0.25; "
        "stopped before lora of size 2: its gain is worth 0.25 and its cost 0.25"
    )
    assert decision.runner_up == "lora of size 2"


def test_gain_is_measured_against_what_the_budget_could_buy():
    """Half the budget a rank, and for a quarter of what both gain the second one does not pay."""
    candidates = candidate_set([unit("L0", rank=[0.75, 1.0, 100.0, 200.0], per_rank=8, bias=0)])
    straight = candidate_set([unit("L0", rank=[0.75, 1.0], per_rank=8)])
    (decision,) = decide(straight, Limits(params=16), cost=0.5)
    assert decision.size == 1
    # What no budget of this size buys does not make the rest look small: nothing on the hull fits.
    (decision,) = decide(candidates, Limits(params=16), cost=0.5)
    assert decision.method == "none"


def test_equal_layers_keep_their_method_once_one_of_them_cannot_grow():
    """The second rank fits only once; a cheap step from there to an adapter would have parted the two."""
    candidates = candidate_set(
        unit(f"L{i}", rank=[1.0, 1.9], per_rank=10, width=[1.98], per_width=1, bias=20, utility=0.5) for i in range(2)
    )
    decisions = decide(candidates, Limits(params=35), cost=0)
    assert [(decision.method, decision.size) for decision in decisions] == [("lora", 2), ("lora", 1)]


def test_each_resource_has_a_weight():
    """LoRA keeps more and computes more, adapters stay in the way of inference."""
    two = candidate_set(
        [
            unit(
                "L0", rank=[0.9], per_rank=8, lora={"flops": 8.0, "kept": 50.0},
                width=[0.8], per_width=8, bias=0, adapter={"seconds": 0.5},
            )
        ]
    )  # fmt: skip
    assert [decide(two, cost=0, **{name: 1})[0].method for name in ("flops", "memory", "latency")] == [
        "adapter",
        "adapter",
        "lora",
    ]


def test_what_is_free_of_all_that_is_weighed_is_still_bought_by_parameters():
    """Merged LoRA has no latency: with nothing else weighed every rank is free, and the largest would not fit."""
    candidates = candidate_set(
        [unit("L0", rank=[0.4, 0.6, 0.7, 0.75], per_rank=4, width=[0.8], per_width=4, adapter={"seconds": 0.5})]
    )
    (decision,) = decide(candidates, Limits(params=13), cost=0, latency=1)
    assert (decision.method, decision.size) == ("lora", 3)


def deep(*utilities):
    """Layers of which each needs ten more FLOPs of the frozen model than the one above it."""
    candidates = lora_units(*utilities, ranks=1, flops=1.0)
    depths = [Cost(flops=100.0 + 10 * n, memory=1000.0 * n) for n in range(len(utilities), -1, -1)]
    return attrs.evolve(candidates, depths=tuple(depths))


def test_where_depth_does_not_fit_the_upper_layers_are_trained():
    decisions = decide(deep(0.7, 0.2, 0.1), Limits(flops=126.0), cost=0)
    assert [decision.method for decision in decisions] == ["none", "lora", "lora"]
    assert decisions[0].reason.endswith("a plan that trains this deep is worth less or does not fit")
    assert decisions[0].runner_up == "lora of size 1"
    assert [d.method for d in decide(deep(0.7, 0.2, 0.1), Limits(flops=133.0), cost=0)] == ["lora", "none", "none"]


def test_a_price_on_flops_keeps_a_plan_from_training_deep():
    assert decide(deep(0.05, 0.2, 0.75), cost=0)[0].method == "lora"
    assert [d.method for d in decide(deep(0.05, 0.2, 0.75), cost=0, flops=1)] == ["none", "lora", "lora"]


def test_where_depth_costs_more_than_all_layers_are_worth_nothing_is_trained():
    candidates = attrs.evolve(deep(0.1, 0.2), depths=(Cost(flops=1e6), Cost(flops=1e6), Cost(flops=1.0)))
    decisions = decide(candidates, cost=0, flops=1.5)
    assert {(decision.method, decision.reason) for decision in decisions} == {
        (
            "none",
            "no candidate is worth its cost; stopped before lora of size 1: "
            "no plan that trains anything is worth its cost and within the limits",
        )
    }


def test_depth_parts_equal_layers_only_where_nothing_could_be_trained_otherwise():
    assert {d.method for d in decide(deep(0.5, 0.5, 0.5), Limits(flops=139.0), cost=0)} == {"lora"}
    methods = [d.method for d in decide(deep(0.5, 0.5, 0.5), Limits(flops=126.0), cost=0)]
    assert methods == ["none", "lora", "lora"]


def test_a_step_that_is_worth_a_little_more_than_its_cost_is_taken():
    (decision,) = decide(candidate_set([unit("L0", rank=[0.75, 1 + 1 / 1024], per_rank=8)]), cost=0.5)
    assert decision.size == 2


def test_the_reason_says_that_nothing_larger_gains_more():
    (decision,) = decide(candidate_set([unit("L0", rank=[1.0, 1.0, 0.5])]), cost=0)
    assert decision.size == 1
    assert decision.reason.endswith("nothing larger gains more")
    assert decision.runner_up is None


@pytest.mark.parametrize("name", ["utility", "cost", "flops", "memory", "latency"])
@pytest.mark.parametrize("text", ["-1", "-0.001", "nan", "inf", "-inf", "much", "", "1,5"])
def test_bad_weights_are_refused(name, text):
    with pytest.raises(PlanError) as caught:
        decide(lora_units(1.0), **{name: text})
    assert str(caught.value) == f"the weight {name!r} must be a number of at least 0, but is {text!r}"


def test_weights_are_read_as_the_user_typed_them():
    candidates = lora_units(0.7, 0.3)
    assert decide(candidates, cost="5e-1") == decide(candidates, cost=0.5) == decide(candidates)
    assert spent(decide(candidates, cost=" 0.9 ")) < spent(decide(candidates, cost="0.1"))


# --- through the front door ---------------------------------------------------------------------------------------


@pytest.fixture
def profile():
    """Three layers of one 32 x 32 module each, ever more useful."""
    layers = tuple(
        Layer(
            name=f"L{i}",
            modules=(LinearModule(name=f"L{i}.w", layer=f"L{i}", kind="linear", in_features=32, out_features=32),),
        )
        for i in range(3)
    )
    return ll.Profile(
        inventory=Inventory(architecture="Toy", model_type="toy", parameters=10_000, layers=layers),
        task="causal-lm",
        scores=(RawScores(metric="fisher", unit="1", granularity="layer", values={"L0": 1.0, "L1": 2.0, "L2": 6.0}),),
        statistics=(),
        data="none",
        samples=1,
        loss=0.0,
    )


def test_allocate_finds_it_by_name_and_keeps_the_budget(profile):
    budget = ll.Budget(params="r=4")
    plan = ll.allocate(profile, strategy="cost-benefit", budget=budget, options={"cost": 0})
    assert plan.limit == 4 * 3 * 64
    assert 0 < plan.parameters <= plan.limit
    assert plan.request.options == {"cost": "0"}
    assert [decision.size for decision in plan.decisions] == sorted(decision.size for decision in plan.decisions)


def test_allocate_refuses_options_that_it_does_not_have(profile):
    with pytest.raises(
        PlanError, match=r"no option 'costs'; it takes: utility, cost, flops, memory, latency\. Did you mean 'cost'"
    ):
        ll.allocate(profile, strategy="cost-benefit", options={"costs": 1})


def test_allocate_refuses_a_bad_weight(profile):
    with pytest.raises(PlanError, match="'cost' must be a number of at least 0, but is 'free'"):
        ll.allocate(profile, strategy="cost-benefit", options={"cost": "free"})
