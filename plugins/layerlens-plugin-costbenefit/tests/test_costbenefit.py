"""The strategy against what its documentation says, a slow reference, and brute force."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerlens_core as ll
from layerlens_core.allocation import Context, check_decisions
from layerlens_core.budget import Limits
from layerlens_core.candidates import Candidate, CandidateSet, Target, Unit, coverage
from layerlens_core.errors import PlanError
from layerlens_core.inventory import Inventory, Layer, LinearModule
from layerlens_core.scores import RawScores
from layerlens_plugin_costbenefit.strategy import select

# --- instances ----------------------------------------------------------------------------------------------------

#: Exact in binary, and coarse, so that ties and straight stretches do occur.
gains = st.integers(-4, 24).map(lambda n: n / 8)
weights = st.integers(0, 24).map(lambda n: n / 8)


def unit(name, *, rank=(), width=(), per_rank=4, per_width=3, bias=2):
    """A unit with LoRA candidates of ranks 1, 2 … and adapters of widths 1, 2 …, from their gains."""
    targets = {
        "none": (),
        "adapter": (Target(name=f"{name}.out", fixed=bias, per_size=per_width),),
        "lora": (Target(name=f"{name}.w", fixed=0, per_size=per_rank),),
    }
    candidates = [Candidate(method="none", size=0, parameters=0, gain=0.0)]
    for method, column in (("adapter", width), ("lora", rank)):
        (target,) = targets[method]
        for size, gain in enumerate(column, start=1):
            candidates.append(Candidate(method=method, size=size, parameters=target.parameters(size), gain=gain))
    return Unit(
        name=name,
        utility=max(candidate.gain for candidate in candidates),
        candidates=tuple(candidates),
        targets=targets,
        notches=dict.fromkeys(targets, 1),
    )


def lora_units(*utilities, ranks=16, per_rank=4):
    """Units as LayerLens builds them: LoRA whose gain is the utility times the coverage of the rank."""
    return candidate_set(
        unit(f"L{i}", rank=[utility * coverage(rank) for rank in range(1, ranks + 1)], per_rank=per_rank)
        for i, utility in enumerate(utilities)
    )


def candidate_set(units):
    return CandidateSet(units=tuple(units), methods=("none", "adapter", "lora"))


@st.composite
def instances(draw, units=4, sizes=4):
    return candidate_set(
        unit(
            f"L{i}",
            rank=draw(st.lists(gains, max_size=sizes)),
            width=draw(st.lists(gains, max_size=sizes)),
            per_rank=draw(st.integers(1, 9)),
            per_width=draw(st.integers(1, 9)),
            bias=draw(st.integers(0, 9)),
        )
        for i in range(draw(st.integers(1, units)))
    )


limits = st.one_of(st.none(), st.integers(1, 150)).map(lambda n: Limits(parameters=n))


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
    """The documented rule, one step at a time, in fractions."""
    at = [next(c for c in unit.candidates if c.method == "none") for unit in candidates.units]
    whole = left = bounds.parameters if bounds.parameters is not None else dearest(candidates)
    best = most_gain(candidates)
    open_units = set(range(len(at)))
    while open_units:
        steps = []
        for i in sorted(open_units):
            following = next_on_hull(candidates.units[i], at[i])
            if following is None:
                open_units.discard(i)
            else:
                steps.append((-ratio(at[i], following), following.parameters, i, following))
        if not steps:
            break
        negative, _, i, following = min(steps, key=lambda step: step[:3])
        price = following.parameters - at[i].parameters
        pays = utility > 0 and -negative * Fraction(utility) / best > Fraction(cost) / whole
        if pays and price <= left:
            at[i], left = following, left - price
        else:
            open_units.discard(i)
    return at


def objective(candidates, plan, whole, utility, cost):
    best = most_gain(candidates)
    gain = sum(Fraction(c.gain) for c in plan)
    price = Fraction(sum(c.parameters for c in plan), whole)
    return (Fraction(utility) * gain / best if best else 0) - Fraction(cost) * price


# --- properties ---------------------------------------------------------------------------------------------------


@given(instances(), limits, weights, weights)
def test_the_limit_is_never_exceeded(candidates, bounds, utility, cost):
    decisions = decide(candidates, bounds, utility=utility, cost=cost)
    if bounds.parameters is not None:
        assert spent(decisions) <= bounds.parameters


@given(instances(), limits, weights, weights)
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
    left = (bounds.parameters if bounds.parameters is not None else dearest(candidates)) - spent(decisions)
    for unit_, pick in zip(candidates.units, chosen(candidates, decisions), strict=True):
        following = next_on_hull(unit_, pick)
        assert following is None or following.parameters - pick.parameters > left


@given(instances())
def test_free_of_cost_weight_and_budget_every_unit_gets_its_best(candidates):
    picks = chosen(candidates, decide(candidates, cost=0))
    assert [pick.gain for pick in picks] == [max(c.gain for c in unit_.candidates) for unit_ in candidates.units]


@given(instances(), limits, weights, st.tuples(weights, weights))
def test_a_higher_cost_weight_never_spends_more(candidates, bounds, utility, costs):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for cost in sorted(costs))
    assert spent(high) <= spent(low)
    for dear, cheap in zip(high, low, strict=True):
        assert dear.parameters <= cheap.parameters


@given(instances(), limits, weights, st.tuples(weights, weights))
def test_a_higher_utility_weight_never_spends_less(candidates, bounds, cost, utilities):
    low, high = (decide(candidates, bounds, utility=utility, cost=cost) for utility in sorted(utilities))
    assert spent(low) <= spent(high)


@given(instances(units=3, sizes=3), st.integers(0, 50) | st.none(), weights, weights)
@settings(max_examples=60)
def test_no_plan_has_a_higher_objective_where_the_budget_does_not_bind(candidates, slack, utility, cost):
    bounds = Limits(parameters=max(1, dearest(candidates) + slack) if slack is not None else None)
    whole = bounds.parameters or max(1, dearest(candidates))
    plan = chosen(candidates, decide(candidates, bounds, utility=utility, cost=cost))
    plans = itertools.product(*(unit_.candidates for unit_ in candidates.units))
    best = max(objective(candidates, other, whole, utility, cost) for other in plans)
    assert objective(candidates, plan, whole, utility, cost) == best


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 60))
@settings(max_examples=60)
def test_under_a_budget_the_loss_against_brute_force_is_less_than_one_step(utilities, budget):
    """The greedy bound: what is missing to the optimum is at most the first step that did not fit."""
    candidates = lora_units(*utilities, ranks=4)
    plan = chosen(candidates, decide(candidates, Limits(parameters=budget), cost=0))
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
    decisions = decide(candidates, Limits(parameters=units * rank * 4 + left_over), cost=0)
    assert [(decision.method, decision.size) for decision in decisions] == [("lora", rank)] * units


@given(st.integers(2, 6), st.integers(4, 300))
def test_equal_utilities_never_differ_by_more_than_one_step(units, budget):
    decisions = decide(lora_units(*[0.5] * units), Limits(parameters=budget), cost=0)
    sizes = [decision.size for decision in decisions]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(st.integers(2, 5), st.integers(1, 4))
def test_equal_units_grow_together_even_where_every_rank_gains_the_same(units, rank):
    straight = candidate_set(unit(f"L{i}", rank=[0.25, 0.5, 0.75, 1.0]) for i in range(units))
    decisions = decide(straight, Limits(parameters=units * rank * 4), cost=0)
    assert [decision.size for decision in decisions] == [rank] * units


# --- examples -----------------------------------------------------------------------------------------------------


def test_a_straight_gain_is_spent_rank_by_rank():
    """The hull of a straight line has two corners; a step between them would not fit, and nothing would be spent."""
    straight = candidate_set([unit("L0", rank=[0.25, 0.5, 0.75, 1.0], per_rank=10)])
    (decision,) = decide(straight, Limits(parameters=35), cost=0)
    assert decision.size == 3


def test_a_useful_unit_gets_more_than_a_useless_one():
    decisions = decide(lora_units(0.6, 0.3, 0.1), Limits(parameters=60))
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


@pytest.mark.parametrize("bounds", [Limits(), Limits(parameters=1_000)])
@pytest.mark.parametrize("cost", [0, 0.5])
def test_utilities_that_are_all_zero_train_nothing_and_say_why(bounds, cost):
    decisions = decide(lora_units(0.0, 0.0, 0.0), bounds, cost=cost)
    assert [decision.method for decision in decisions] == ["none"] * 3
    assert {decision.reason for decision in decisions} == {
        "no candidate is worth its cost; nothing larger gains more",
    }


def test_a_negative_utility_is_never_trained():
    decisions = decide(lora_units(0.5, -0.5), cost=0)
    assert [decision.method for decision in decisions] == ["lora", "none"]


def test_a_utility_weight_of_zero_trains_nothing():
    decisions = decide(lora_units(0.5, 0.5), utility=0)
    assert [decision.method for decision in decisions] == ["none", "none"]


def test_the_reason_says_what_stopped_it_the_budget():
    (decision,) = decide(lora_units(1.0, per_rank=10), Limits(parameters=25), cost=0)
    assert (decision.size, decision.parameters) == (2, 20)
    assert decision.reason.endswith("stopped before lora of size 3: 10 more parameters do not fit in the 5 left")
    assert decision.runner_up == "lora of size 3"


def test_the_reason_says_what_stopped_it_the_cost():
    # Two ranks of 8 parameters; without a budget, rank 2 (16) is the whole. Net worth of a step: gain - 8/16·cost.
    (decision,) = decide(candidate_set([unit("L0", rank=[0.75, 1.0], per_rank=8)]), cost=0.5)
    assert decision.size == 1  # 0.75 > 0.25; the second step gains 0.25, which is not above 0.25
    pays = 0.5 / 16
    assert decision.reason == (
        f"the last step gains {0.75 / 8:.3g} a parameter, above the {pays:.3g} that pays; "
        f"stopped before lora of size 2: gain a parameter {0.25 / 8:.3g} is not above the {pays:.3g} that pays"
    )
    assert decision.runner_up == "lora of size 2"


def test_a_step_that_is_worth_a_little_more_than_its_cost_is_taken():
    (decision,) = decide(candidate_set([unit("L0", rank=[0.75, 1 + 1 / 1024], per_rank=8)]), cost=0.5)
    assert decision.size == 2


def test_the_reason_says_that_nothing_larger_gains_more():
    (decision,) = decide(candidate_set([unit("L0", rank=[1.0, 1.0, 0.5])]), cost=0)
    assert decision.size == 1
    assert decision.reason.endswith("nothing larger gains more")
    assert decision.runner_up is None


@pytest.mark.parametrize("name", ["utility", "cost"])
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
    assert plan.options == {"cost": "0"}
    assert [decision.size for decision in plan.decisions] == sorted(decision.size for decision in plan.decisions)


def test_allocate_refuses_options_that_it_does_not_have(profile):
    with pytest.raises(PlanError, match=r"no option 'costs'; it takes: utility, cost. Did you mean 'cost'"):
        ll.allocate(profile, strategy="cost-benefit", options={"costs": 1})


def test_allocate_refuses_a_bad_weight(profile):
    with pytest.raises(PlanError, match="'cost' must be a number of at least 0, but is 'free'"):
        ll.allocate(profile, strategy="cost-benefit", options={"cost": "free"})
