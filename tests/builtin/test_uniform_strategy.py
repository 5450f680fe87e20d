"""One rank everywhere: exactly what a budget of a rank says, and frozen layers only where a budget forces them."""

import math
import random

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerlens_builtin.strategies.evenly import evenly
from layerlens_builtin.strategies.freezing import HALVINGS, halvings, priced
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.problem import pose
from layerlens_core.errors import BudgetError
from layerlens_core.values.costs import Activations, Limits
from layerlens_core.values.inventory import LinearModule
from layerlens_core.values.request import Request


def plan(profile, *budget, **arguments):
    return allocate(profile, strategy="uniform", budget=list(budget), margins=False, **arguments)


def with_activations(profile, a_layer=1000.0):
    """The profile of a model whose layers keep so many bytes a token where gradients pass through them."""
    names = [layer.name for layer in profile.inventory.layers]
    kept = Activations(through=dict.fromkeys(names, a_layer), adapted=dict.fromkeys(names, 100.0), head=10.0)
    return attrs.evolve(profile, activations=kept)


@pytest.mark.parametrize("rank", [1, 4, 64])
@pytest.mark.parametrize("kind", ["params", "memory", "flops"])
def test_a_budget_of_a_rank_is_that_rank_everywhere(make_profile, rank, kind):
    planned = plan(with_activations(make_profile([1, 9, 0, 5])), f"{kind}=r={rank}")
    assert set(planned.sizes("lora").values()) == {rank}
    assert len(planned.sizes("lora")) == 4 * 6
    assert planned.notes == ()


@settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])
@given(scores=st.lists(st.floats(0, 100), min_size=1, max_size=6), budget=st.integers(1_728, 900_000))
def test_it_is_the_largest_rank_that_the_budget_allows(make_profile, scores, budget):
    planned = plan(make_profile(scores), f"params={budget}")
    one = 1728  # of a layer at rank 1
    ranks = {d.size for d in planned.decisions}
    if budget >= one * len(scores):
        assert ranks == {min(64, budget // (one * len(scores)))}
    else:  # as many layers as there can be, the uppermost
        trained = budget // one
        assert [d.size for d in planned.decisions] == [0] * (len(scores) - trained) + [1] * trained
        assert f"the lowest {len(scores) - trained} of {len(scores)} layers stay frozen" in planned.notes[0]


def test_memory_freezes_from_the_bottom_where_that_costs_less_than_small_ranks(make_profile):
    profile = with_activations(make_profile([1.0] * 8))
    whole = plan(profile, "memory=r=8")
    tight = plan(profile, f"memory={int(whole.cost.memory * 0.8)}", "params=r=8")
    frozen = [d.method == "none" for d in tight.decisions]
    assert 0 < sum(frozen) < 8
    assert frozen == sorted(frozen, reverse=True)
    assert len({d.size for d in tight.decisions if d.size}) == 1
    assert "costs about as much loss as dividing the trainable parameters by" in tight.notes[0]


def test_nothing_is_frozen_where_the_bound_on_parameters_decides(make_profile):
    profile = with_activations(make_profile([1.0] * 8))
    planned = plan(profile, "memory=r=9", "params=r=8")
    assert {d.size for d in planned.decisions} == {8}


def random_limits(draw, candidates):
    amounts = {}
    for name in draw.sample(["params", "memory", "flops"], draw.randrange(1, 4)):
        low, high = getattr(candidates.base(None), name), getattr(candidates.base(0), name)
        high += sum(unit.candidates[-1].cost.params for unit in candidates.units) * (16 if name == "memory" else 6)
        amount = low + draw.random() ** 2 * (high - low)
        amounts[name] = int(amount) if name == "params" else amount
    return Limits(**amounts)


def by_trial(candidates, limits):
    """Every depth and rank, tried one after the other: what is gained in doublings, less the price of the depth."""
    layers, found = len(candidates.units), {}
    for first in range(layers):
        for rank in range(1, 65):
            trained = candidates.units[first:]
            costs = [(u, u.cost("lora", {t.name: rank for t in u.targets["lora"]})) for u in trained]
            total = candidates.total_of(costs)
            if total.within(limits):
                found[first] = rank, total.params
    return found


def test_depth_and_rank_are_those_of_trying_everything(make_profile):
    draw, refused, deep = random.Random(0), 0, 0
    problem = pose(with_activations(make_profile([1.0] * 5), 30.0), Request(strategy="uniform", budget=()))
    for _ in range(60):
        limits = random_limits(draw, problem.candidates)
        found = by_trial(problem.candidates, limits)
        if not found:
            refused += 1
            with pytest.raises(BudgetError, match="the smallest size of the uppermost layers alone takes"):
                evenly(problem.candidates, limits)
            continue
        even = evenly(problem.candidates, limits)
        assert found[even.first][0] == even.steps
        worth = {first: math.log2(params) - halvings(first / 5) for first, (_, params) in found.items()}
        if 0 in found:
            assert even.first == 0
        elif set(limits.bounds) & {"memory", "flops"}:
            assert worth[even.first] == pytest.approx(max(worth.values()))
            deep += even.first > 0
        else:
            assert even.first == min(found)
    assert deep > 5
    assert refused < 40


def test_other_methods_have_one_size_too(make_profile):
    planned = plan(make_profile([1, 2, 3]), "params=r=8", methods=["adapter"])
    assert {d.method for d in planned.decisions} == {"adapter"}
    assert len({d.size for d in planned.decisions}) == 1


def test_the_price_of_freezing_is_what_was_measured_and_lies_between(make_profile):
    for share, price in HALVINGS:
        assert halvings(share) == pytest.approx(price)
    shares = [i / 40 for i in range(41)]
    prices = [halvings(share) for share in shares]
    assert prices == sorted(prices)
    assert halvings(1.0) > 3.4
    assert priced(3, 12).startswith("the lowest 3 of 12 layers stay frozen, which costs about as much loss as dividing")


def test_what_modules_outside_the_layers_would_take_is_not_spent_on_more_rank(make_profile):
    profile = make_profile([1, 2])
    pooler = LinearModule(name="bert.pooler.dense", layer=None, kind="linear", in_features=96, out_features=96)
    inventory = attrs.evolve(profile.inventory, outside=(pooler,))
    planned = plan(attrs.evolve(profile, inventory=inventory), "params=r=20")
    assert planned.limit - planned.parameters == 20 * 192 > 2 * 1728
    assert set(planned.sizes("lora").values()) == {20}
    # A budget of the same number, said as a number, is used as far as it goes.
    free = plan(attrs.evolve(profile, inventory=inventory), f"params={planned.limit}")
    assert set(free.sizes("lora").values()) == {21}
