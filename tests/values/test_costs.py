"""Amounts of what a plan costs: they add up, and are held against limits."""

import pytest

from layerlens_core.errors import BudgetError
from layerlens_core.values.costs import OPTIMIZER_BYTES, RESOURCES, Cost, Limits, Training


@pytest.mark.parametrize("kind", RESOURCES)
def test_what_costs_a_bound_fits_it_and_more_does_not(kind):
    limits = Limits(**{kind: 100})
    assert Cost(**{kind: 100}).within(limits)
    assert Cost(**{kind: 101}).exceeded(limits) == [kind]
    others = {name: 10**9 for name in RESOURCES if name != kind}
    assert Cost(**others).within(limits)


def test_sums_of_floats_may_exceed_a_bound_by_their_rounding_and_counts_may_not():
    assert Cost(flops=0.1 + 0.2).within(Limits(flops=0.3))
    assert not Cost(flops=0.3 * (1 + 1e-8)).within(Limits(flops=0.3))
    assert Cost(params=10**12 + 1).exceeded(Limits(params=10**12)) == ["params"]


def test_costs_add_subtract_and_multiply_by_resource():
    one = Cost(params=3, flops=0.5, memory=8.0, latency=0.25)
    assert one + one == one.times(2) == Cost(params=6, flops=1.0, memory=16.0, latency=0.5)
    assert one - one == Cost()


def test_limits_list_the_bounds_that_there_are_in_the_order_of_resources():
    assert list(Limits(latency=0.0, params=5).bounds.items()) == [("params", 5), ("latency", 0.0)]
    assert Limits().bounds == {}
    assert Cost(params=10**12).within(Limits())


@pytest.mark.parametrize(("optimizer", "bytes_"), [("adamw", 16), ("sgd", 8), ("adamw_8bit", 10)])
def test_a_trainable_parameter_takes_weight_gradient_and_states(optimizer, bytes_):
    assert Training(optimizer=optimizer).bytes_per_parameter == bytes_


def test_a_step_has_tokens_and_a_width_of_activations():
    assert Training(batch=3, length=7).tokens == 21
    assert (Training().activation_bytes, Training(dtype="bfloat16").activation_bytes) == (4, 2)


def test_an_unknown_optimizer_is_answered_with_the_known_ones():
    with pytest.raises(BudgetError, match=r"no optimizer is named 'adam_w'.*Did you mean 'adamw'") as caught:
        Training(optimizer="adam_w")
    for name in OPTIMIZER_BYTES:
        assert name in str(caught.value)
