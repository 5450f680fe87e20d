"""Random problems are what strategies get: all that could be done, bounded so that something fits, but not all."""

import pytest

from layerlens_core.allocation.allocate import allocate
from layerlens_core.testing import isolated_registry, random_inventory, random_problem, random_profile
from layerlens_core.values.costs import RESOURCES
from layerlens_core.values.profile import Profile

PROBLEMS = [random_problem(seed, bounds=bounds) for seed in range(12) for bounds in (RESOURCES, None)]


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_resource_is_bounded_and_costs_something(resource):
    bounded = [candidates for candidates, limits in PROBLEMS if resource in limits.bounds]
    assert len(bounded) > 12
    assert all(candidates.table.amounts[resource].max() > 0 for candidates in bounded)


def test_something_fits_and_rarely_all():
    everything = 0
    for candidates, limits in PROBLEMS:
        assert candidates.base(None).within(limits)
        fitting = [
            (candidates.base(unit.depth) + candidate.cost).within(limits)
            for unit in candidates.units
            for candidate in unit.candidates
            if candidate.cost.params > 0
        ]
        assert any(fitting)
        dearest = candidates.total_of((unit, unit.candidates[-1].cost) for unit in candidates.units)
        everything += dearest.within(limits)
    assert everything < len(PROBLEMS) / 4


def test_the_same_seed_gives_the_same_and_another_another():
    assert random_inventory(1) == random_inventory(1) != random_inventory(2)
    assert random_profile(1) == random_profile(1) != random_profile(2)
    assert len(random_inventory(1, layers=5).layers) == 5


def test_a_random_profile_survives_and_can_be_planned_under_all_four_budgets(tmp_path):
    for seed in range(6):
        profile = random_profile(seed)
        profile.save(tmp_path)
        assert Profile.load(tmp_path) == profile
        with isolated_registry() as registry:
            budget = "params=r=8,memory=r=8,flops=r=8,latency=1s"
            plan = allocate(profile, strategy="budget", budget=budget, methods="adapter,lora", registry=registry)
        assert set(plan.limits.bounds) == set(RESOURCES)


def test_scores_that_are_given_are_those_of_the_layers():
    inventory = random_inventory(0, layers=3)
    (scores,) = random_profile(0, inventory=inventory, scores=[1.0, 0.0, 2.0]).scores
    assert list(scores.by_layer(inventory).values()) == [4.0, 0.0, 8.0]
