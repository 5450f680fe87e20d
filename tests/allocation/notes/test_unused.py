"""What a budget leaves is said, by every strategy, with the reason."""

import pytest

from bert_profile import bert_profile
from layerlens_core.allocation.allocate import allocate
from layerlens_core.cli.tables import spending

PROFILE = bert_profile([1, 2, 3])
STRATEGIES = ("tempered", "uniform", "threshold", "budget", "cost-benefit")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_left_is_said_in_the_plan_and_below_the_table(strategy):
    planned = allocate(PROFILE, strategy=strategy, budget="params=20001", abstain=False, margins=False)
    left = planned.limit - planned.parameters
    assert left > 0  # 20,001 is no multiple of what ranks cost
    note = next(note for note in planned.notes if "left unused" in note)
    assert note.startswith(f"{left:,} of 20,001 trainable parameters ({left / 20001:.1%}) are left unused: ")
    assert note in spending(planned)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "cost-benefit"])  # weighs costs itself
def test_beyond_the_largest_sizes_that_is_the_reason(strategy):
    planned = allocate(PROFILE, strategy=strategy, budget="params=r=512", abstain=False, margins=False)
    assert {decision.method for decision in planned.decisions} == {"lora"}
    assert set(planned.sizes("lora").values()) == {64}
    assert planned.notes[-1].endswith(
        "are left unused: every module that is trained has its largest size; 18 modules are held at rank 64, and "
        "--max-rank (max_rank=) allows more, up to 96 here"
    )


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "cost-benefit"])
def test_at_the_full_rank_nothing_is_advised(strategy):
    planned = allocate(PROFILE, strategy=strategy, budget="params=r=512", max_rank=1000, abstain=False, margins=False)
    assert set(planned.sizes("lora").values()) == {96}
    assert planned.notes[-1].endswith("every module that is trained has its largest size")


def test_where_nothing_is_left_nothing_is_said():
    planned = allocate(PROFILE, strategy="uniform", budget="params=r=4", margins=False)
    assert planned.notes == ()


def test_a_step_that_does_not_fit_is_the_reason():
    planned = allocate(PROFILE, strategy="threshold", budget=f"params={3 * 1728 * 2 + 100}", margins=False)
    assert planned.notes[-1].endswith("left unused: the smallest step takes 192")


def test_memory_that_is_left_is_said_too():
    planned = allocate(PROFILE, strategy="uniform", budget=["params=r=4", "memory=1TiB"], margins=False)
    assert "of 1024.00 GiB memory (100.0%) are left unused" in planned.notes[0]
