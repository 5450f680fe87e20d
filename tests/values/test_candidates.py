"""What can be done to a unit, and what it costs, worked out by hand."""

import attrs
import pytest

from layerlens_core.values.candidates import Candidate, CandidateSet, Target, Unit
from layerlens_core.values.costs import Cost, Training
from layerlens_core.values.decisions import Decision

#: Ten tokens a step; a trainable parameter takes 8 bytes, a kept value 2.
STEP = Training(batch=2, length=5, optimizer="sgd", dtype="bfloat16")


def unit(name="L0", utility=0.5, depth=0):
    """LoRA of ranks 2 and 4 on two modules, and nothing."""
    targets = tuple(Target(name=f"{name}.{part}", fixed=0, per_size=step) for part, step in (("a", 10), ("b", 30)))
    candidates = [Candidate(method="none", size=0, cost=Cost(), gain=0.0)]
    for size in (2, 4):
        cost = sum((target.cost(size, STEP) for target in targets), Cost())
        candidates.append(Candidate(method="lora", size=size, cost=cost, gain=utility * size / 4))
    return Unit(
        name=name,
        utility=utility,
        candidates=tuple(candidates),
        targets={"none": (), "lora": targets},
        notches={"none": 1, "lora": 2},
        depth=depth,
        training=STEP,
    )


def test_a_target_costs_what_its_sizes_take():
    target = Target(
        name="w", fixed=3, per_size=7, flops=5.0, flops_pass=100.0, values_pass=50.0, kept_bytes=11.0, kept_fixed=2.0,
        kept=4.0, seconds_fixed=0.25, seconds=0.5,
    )  # fmt: skip
    cost = target.cost(2, STEP)
    assert cost.params == target.parameters(2) == 3 + 2 * 7
    assert cost.flops == 3 * (5 + 100 / 10) * 2
    assert cost.memory == 17 * 8 + 10 * (11 + 2 * (2 + 2 * 4)) + 50 * 2
    assert cost.latency == 0.25 + 2 * 0.5


def test_size_zero_is_free():
    target = Target(name="w", fixed=3, per_size=7, seconds_fixed=1.0, kept_bytes=5.0)
    assert (target.parameters(0), target.cost(0, STEP)) == (0, Cost())


def test_a_candidate_says_what_it_is():
    nothing, small, _ = unit().candidates
    assert (str(nothing), str(small)) == ("none", "lora of size 2")
    assert (nothing.parameters, small.parameters) == (0, 80)


def test_a_unit_answers_by_method():
    made = unit()
    assert made.sizes("lora") == [2, 4]
    assert made.offers("lora")
    assert not made.offers("prefix")
    assert made.cheapest("lora").size == 2
    assert [candidate.size for candidate in made.candidates_of("none")] == [0]


def test_gains_are_in_proportion_to_utility():
    assert [c.gain for c in unit(utility=0.5).with_utility(1.0).candidates] == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="L0 has no utility to scale"):
        unit(utility=0.0).with_utility(1.0)


def test_a_decision_costs_what_its_single_sizes_cost():
    made = unit()
    plain = made.decide("lora", 2, reason="enough")
    assert (plain.sizes, plain.parameters, plain.utility) == ({"L0.a": 2, "L0.b": 2}, 80, 0.5)
    refined = made.decide("lora", 2, reason="more for b", sizes={"L0.b": 4}, runner_up="none", margin=-0.1)
    assert (refined.sizes, refined.parameters) == ({"L0.a": 2, "L0.b": 4}, 20 + 120)
    assert (refined.size, refined.runner_up, refined.margin) == (2, "none", -0.1)
    assert made.decide("none", reason="not worth it") == Decision(
        unit="L0", method="none", size=0, sizes={}, utility=0.5, cost=Cost(), reason="not worth it"
    )


def test_the_lowest_trained_unit_sets_the_frozen_models_part():
    units = (unit("L0", depth=0), unit("L1", depth=1))
    depths = (Cost(flops=30.0), Cost(flops=20.0), Cost(flops=10.0))
    candidates = CandidateSet(units=units, methods=("none", "lora"), depths=depths)
    assert [candidates.base(lowest).flops for lowest in (0, 1, None)] == [30.0, 20.0, 10.0]
    upper = [units[0].decide("none", reason=""), units[1].decide("lora", 2, reason="")]
    assert candidates.total(upper) == Cost(params=80, memory=640.0, flops=20.0)
    assert candidates.total([each.decide("none", reason="") for each in units]) == Cost(flops=10.0)
    assert attrs.evolve(candidates, depths=()).base(0) == Cost()


def test_the_cheapest_candidate_is_one_that_trains_something():
    candidates = CandidateSet(units=(unit("L0"), unit("L1")), methods=("none", "lora"))
    assert candidates.cheapest is not None
    assert candidates.cheapest.parameters == 80
    nothing = attrs.evolve(unit(), candidates=unit().candidates[:1])
    assert CandidateSet(units=(nothing,), methods=("none",)).cheapest is None


@pytest.mark.parametrize(("utilities", "alike"), [((0.5, 0.5), True), ((0.5, 0.25), False), ((0.5,), False)])
def test_a_reason_says_that_all_utilities_are_equal_where_there_are_several(utilities, alike):
    made = CandidateSet(units=tuple(unit(f"L{i}", u) for i, u in enumerate(utilities)), methods=("none", "lora"))
    assert bool(made.alike) is alike
