"""What fits, against trying one after the other."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerlens_core as ll
from layerlens_core.estimating.advice import advise, from_layer
from layerlens_core.estimating.estimated import full_rank, packed
from layerlens_core.values.costs import Limits, Training
from zoo.configured import configuration


@pytest.fixture(scope="module")
def found():
    return ll.estimate(configuration("llama-wide"), training=Training(batch=4, length=32))


@settings(max_examples=40)
@given(share=st.floats(0.2, 8), rank=st.sampled_from([1, 5, 64, None]))
def test_the_largest_batch_is_the_last_that_fits(found, share, rank):
    limits = Limits(memory=found.step.cost(rank).memory * share)
    largest = found.step.largest_batch(rank, limits)
    fits = [batch for batch in range(1, largest + 3) if found.step.with_batch(batch).cost(rank).within(limits)]
    assert fits == list(range(1, largest + 1))


@settings(max_examples=40)
@given(share=st.floats(0.2, 4), kind=st.sampled_from(["memory", "params", "flops"]))
def test_the_largest_rank_is_the_last_that_fits(found, share, kind):
    bound = getattr(found.step.cost(9), kind) * share
    limits = Limits(**{kind: int(bound) if kind == "params" else bound})
    fits = [rank for rank in range(1, full_rank(found.step.inventory) + 1) if found.step.cost(rank).within(limits)]
    assert found.step.largest_rank(limits) == max(fits, default=0)


def test_a_bound_without_memory_leaves_the_batch_as_it_is(found):
    assert found.step.largest_batch(1, Limits(params=10**9)) == 4
    assert found.step.largest_batch(64, Limits(params=1)) == 0


def test_packed_bytes_are_half_a_byte_a_weight_and_a_scale_for_64(found):
    inventory = packed(found.step.inventory)
    sizes = [module.in_features * module.out_features for module in found.step.inventory.linears()]
    assert inventory.packed == sum(sizes)
    assert inventory.packed_bytes == sum(math.ceil(size / 2) + 4 * math.ceil(size / 64) for size in sizes)
    assert inventory.parameters == found.parameters


def test_layers_from_the_lowest_one_on_are_all_of_them(found):
    costs = [from_layer(found.step, 8, depth) for depth in range(len(found.step.inventory.layers))]
    assert costs[0].memory == pytest.approx(found.step.cost(8).memory)
    assert costs[0].params == found.step.cost(8).params
    assert [cost.memory for cost in costs] == sorted((cost.memory for cost in costs), reverse=True)


@pytest.fixture(scope="module")
def advice():
    """What is advised for a step of 64 samples, of 619 MiB, by the bytes that there are."""
    step = Training(batch=64, length=128)
    plain, checkpointed = (
        ll.estimate(configuration("llama-wide"), training=step, checkpointing=on).step for on in (False, True)
    )
    return lambda memory: advise(plain, checkpointed, 8, Limits(memory=memory))


def test_advice_names_what_fits_the_least_change_first(advice):
    lines = advice(400 * 2**20)
    assert [line.split(",")[0].split(":")[0] for line in lines] == [
        "--batch-size 41", "--checkpointing", "--length 82", "only the upper 4 of 8 layers"
    ]  # fmt: skip
    for line in lines:
        assert float(line.rpartition(": ")[2].removesuffix(" MiB")) <= 400


def test_what_is_advised_fits_when_it_is_asked_for():
    bound = 400 * 2**20
    for batch, length, checkpointing, fits in ((41, 128, False, True), (42, 128, False, False), (64, 82, False, True)):
        step = Training(batch=batch, length=length)
        again = ll.estimate(configuration("llama-wide"), training=step, checkpointing=checkpointing)
        assert (again.row(8).cost.memory <= bound) is fits


def test_two_changes_are_advised_only_where_none_does(advice):
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in advice(20 * 2**20)] == [
        "--batch-size 1, with gradients accumulated to 64 for the same updates:",
        "--checkpointing, which computes layers twice, with --batch-size 5:",
    ]
    (both,) = advice(6 * 2**20)
    assert both.startswith("4-bit weights and --checkpointing, with --batch-size 1: ")
    (nothing,) = advice(2**20)
    assert nothing.startswith("nothing here fits: rank 1 with one sample a step")
