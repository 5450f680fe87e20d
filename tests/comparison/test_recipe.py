"""From a comparison to the recipe of the run's plan."""

import attrs
import pytest

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.comparison.compared import Comparison
from layerlens_core.comparison.rate_search import Curve
from layerlens_core.comparison.recipe import recipe_of
from layerlens_core.values.comparison import Arm, Schedule


def compared(*arms):
    """A comparison that found rates, of arms by name, budget and rate."""
    return Comparison(
        setting="s",
        samples=100,
        schedule=Schedule(steps=30, batch=10),
        arms=tuple(Arm(name=name, budget=budget, sizes={}, scale=2, parameters=1) for name, budget, _ in arms),
        curves=tuple(
            Curve(arm=f"{name} {budget}", points=(), rate=rate, steps=30, batch=4) for name, budget, rate in arms
        ),
    )


PLAN = allocate(bert_profile([3.0, 2.0, 1.0]), budget="params=r=2")


@pytest.mark.parametrize("typed", ["r=2", "params=r=2", "R = 2", "params = r=2"])
def test_the_rate_is_that_of_the_plan_at_its_own_budget_however_that_was_typed(typed):
    found = compared(("uniform", typed, 1e-2), ("plan", "r=4", 2e-2), ("plan", typed, 3e-2))
    recipe = recipe_of(found, PLAN)
    assert recipe.rate == 3e-2
    assert recipe.budget == "params=r=2"
    assert recipe.epochs == 3


def test_without_the_plan_it_is_that_of_uniform_at_the_plan_s_budget():
    assert recipe_of(compared(("uniform", "r=4", 1e-2), ("uniform", "r=2", 2e-2)), PLAN).rate == 2e-2
    assert recipe_of(compared(("uniform", "r=4", 1e-2), ("gora", "r=2", 2e-2)), PLAN).rate is None


def test_a_plan_without_a_budget_of_parameters_is_compared_at_what_it_trains():
    plan = attrs.evolve(PLAN, request=attrs.evolve(PLAN.request, budget=("memory=90%",)))
    budget = f"params={plan.parameters}"
    recipe = recipe_of(compared(("uniform", "r=2", 1e-2), ("plan", budget, 2e-2)), plan)
    assert (recipe.rate, recipe.budget) == (2e-2, budget)
    assert recipe_of(compared(("uniform", "r=2", 1e-2), ("plan", "r=2", 2e-2)), plan).rate is None
