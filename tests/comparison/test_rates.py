"""The search for a rate, on losses that are known everywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerlens_core.comparison.rate_search import best, carried_on
from layerlens_core.comparison.rates import COARSE, find_rates, weaknesses
from layerlens_core.errors import DataError
from layerlens_core.values.comparison import Arm, Result, Schedule

LABELS = (1, 1)
#: Held-out NLL of uniform LoRA on intents as text by rate, for a sixteenth and an eighth of 700 steps, and for all of
#: them (one or two seeds; `docs/evidence.md`).
RECORDED = {
    "r=1": (
        {2.5e-3: 2.5294, 5e-3: 1.6532, 1e-2: 1.0488, 2e-2: 0.9145, 4e-2: 1.6771},
        {1e-2: 0.6526, 2e-2: 0.6154},
        {5e-3: 0.1986, 1e-2: 0.1783, 2e-2: 0.2015, 4e-2: 5.4104},
    ),
    "r=4": (
        {2.5e-3: 1.5796, 5e-3: 0.9853, 1e-2: 0.8135, 2e-2: 0.9612},
        {5e-3: 0.5863, 1e-2: 0.4609},
        {5e-3: 0.1526, 1e-2: 0.1447, 2e-2: 2.9719},
    ),
    "r=16": (
        {1.25e-3: 1.4400, 2.5e-3: 0.9200, 5e-3: 0.7780, 1e-2: 0.8288, 2e-2: 5.9192},
        {2.5e-3: 0.5354, 5e-3: 0.4057},
        {2.5e-3: 0.1418, 5e-3: 0.1232, 1e-2: 3.6991},
    ),
}


#: The same of uniform LoRA on intents as classes, whose head is new, by MiniLM (*labels*) and MPNet: of a sixteenth and
#: an eighth of the samples by a quarter of the batch, and of whole runs.
NEW_HEADS = {
    "labels r=1": (
        {0.000625: 4.6265, 0.00125: 4.1475, 0.0025: 3.3546, 0.005: 2.3300, 0.01: 1.5501, 0.02: 5.0130},
        {0.000625: 4.0137, 0.00125: 3.1870, 0.0025: 2.0677, 0.005: 1.1243, 0.01: 0.6620, 0.02: 5.0143},
        {0.000625: 2.0782, 0.00125: 0.9634, 0.0025: 0.3829, 0.005: 0.2131, 0.01: 0.1903, 0.02: math.inf},
    ),
    "labels r=4": (
        {0.000625: 4.4930, 0.00125: 3.9365, 0.0025: 3.1314, 0.005: 2.2654, 0.01: 5.0065, 0.02: 5.0225},
        {0.000625: 3.8127, 0.00125: 2.9024, 0.0025: 1.8049, 0.005: 1.0377, 0.01: 5.0035, 0.02: 5.0095},
        {0.000625: 1.6425, 0.00125: 0.6374, 0.0025: 0.2561, 0.005: 0.1908, 0.01: 0.2205, 0.02: math.inf},
    ),
    "labels r=16": (
        {0.000625: 4.3440, 0.00125: 3.7725, 0.0025: 3.0561, 0.005: 3.0127, 0.01: 5.0193, 0.02: 5.0281},
        {0.000625: 3.6083, 0.00125: 2.6371, 0.0025: 1.6573, 0.005: 5.0154, 0.01: 5.0190, 0.02: 5.0160},
        {0.000625: 1.1972, 0.00125: 0.3945, 0.0025: 0.2004, 0.005: 0.2626, 0.01: 5.0109, 0.02: math.inf},
    ),
    "mpnet r=1": (
        {0.000625: 2.6261, 0.00125: 0.9974, 0.0025: 0.3288, 0.005: 0.2883, 0.01: 0.4198, 0.02: 5.2330},
        {0.000625: 0.8529, 0.00125: 0.2609, 0.0025: 0.1569, 0.005: 0.1887, 0.01: 5.0384, 0.02: 5.6117},
        {0.000625: 0.1285, 0.00125: 0.1012, 0.0025: 0.1025, 0.005: 0.1355, 0.01: 0.1613, 0.02: 5.0287},
    ),
    "mpnet r=8": (
        {0.000625: 2.3702, 0.00125: 0.8485, 0.0025: 0.3116, 0.005: 0.3070, 0.01: 5.0663, 0.02: 6.5565},
        {0.000625: 0.6655, 0.00125: 0.2183, 0.0025: 0.1717, 0.005: 5.0054, 0.01: 5.0055, 0.02: 5.6508},
        {0.000625: 0.1129, 0.00125: 0.1000, 0.0025: 0.1101, 0.005: 5.0135, 0.01: 5.0126, 0.02: 5.1278},
    ),
}


def arm(name="uniform", budget="r=4"):
    """An arm; those of other names train other modules, since what trains the same is one job."""
    return Arm(name=name, budget=budget, sizes={"lora": {name: int(budget[2:])}}, scale=2, parameters=4)


def searched(loss, *, steps=700, arms=None, batch=4, **options):
    """The curves, and every job that was run, where ``loss`` tells the loss of an arm by rate and steps."""
    ran = []

    def run(jobs):
        ran.extend(jobs)
        for job in jobs:
            found = loss(job.arm, job.rate, job.schedule.steps)
            diverged = not math.isfinite(found)
            yield Result(job=job, losses=() if diverged else (found, found), diverged=diverged)

    return find_rates(arms or [arm()], Schedule(steps=steps, batch=batch), "test", run, LABELS, **options), ran


@pytest.mark.parametrize("rank", RECORDED)
def test_recorded_runs_give_the_rate_of_the_best_whole_run(rank):
    short, long, whole = RECORDED[rank]
    assert carried_on(best(short), short, long, (44, 88, 700)) == best(whole)


@pytest.mark.parametrize("case", NEW_HEADS)
def test_under_a_new_head_quarter_batches_give_the_rate_of_the_best_whole_run(case):
    short, long, whole = NEW_HEADS[case]
    by_steps = {176: short, 352: long}
    curves, ran = searched(
        lambda _arm, rate, steps: by_steps[steps].get(rate, math.inf), steps=704, batch=64, new_head=True
    )
    assert {(job.schedule.steps, job.schedule.batch) for job in ran} == {(176, 16), (352, 16)}
    assert curves["uniform r=4"].rate == best(whole)
    assert curves["uniform r=4"].share <= 0.7


def test_only_under_a_new_head_a_third_rate_is_carried_on():
    """On intents as text a second halving would cost 5 to 11 %."""

    def loss(_arm, rate, steps):
        return 1 + abs(math.log(rate / (1e-2 if steps < 50 else 1e-3))) / steps

    for new_head, lowest in ((False, 5e-3), (True, 2.5e-3)):
        curves, ran = searched(loss, steps=704, batch=1, new_head=new_head)
        assert min(job.rate for job in ran if job.schedule.steps > 50) == lowest
        assert curves["uniform r=4"].rate == lowest


def test_where_all_rates_are_alike_none_is_the_last_that_was_tried():
    found, _ = searched(lambda arm, rate, steps: 1.5)
    assert weaknesses(found.values()) == []


def test_a_higher_rate_is_never_carried_on_to():
    # The higher rate gains with the steps, but whether it survives a long run no short one shows.
    short, long = {1e-2: 1.0, 5e-3: 1.2, 2e-2: 1.05}, {1e-2: 0.8, 5e-3: 0.95}
    assert carried_on(1e-2, short, long, (44, 88, 700)) == 1e-2


@given(
    centre=st.floats(-9.5, -3.5), width=st.floats(0.02, 1.0), cliff=st.floats(0.6, 3.0), drift=st.floats(0.0, 0.1),
    steps=st.integers(192, 2_000),
)  # fmt: skip
def test_it_finds_the_basin_for_at_most_seven_tenths_of_a_run(centre, width, cliff, drift, steps):
    """Loss is a parabola in the logarithm of the rate. Its least wanders down with the steps; beyond it is a cliff."""

    def loss(_arm, rate, taken):
        away = math.log(rate) - (centre - drift * math.log2(taken / 12))
        return math.inf if away > cliff else 1 + width * away**2

    curves, ran = searched(loss, steps=steps)
    curve = curves["uniform r=4"]
    assert curve.share <= 0.75  # 0.7, but for what rounding up to whole steps adds in short runs
    assert sum(job.schedule.steps for job in ran) == pytest.approx(curve.share * steps)
    at_least = centre - drift * math.log2(steps / 12)
    reached = math.log(COARSE[0] / 2) - 0.1 <= at_least <= math.log(2 * COARSE[-1]) + 0.1
    if reached:
        assert loss(None, curve.rate, steps) <= 1 + width * (math.log(2) + 3 * drift + 0.05) ** 2


def test_the_share_is_at_most_seven_tenths_where_steps_divide():
    curves, _ = searched(lambda _arm, rate, _steps: abs(math.log(rate / 2e-2)) + 1, steps=1_600)
    assert curves["uniform r=4"].share <= 0.7
    assert curves["uniform r=4"].rate == pytest.approx(2e-2)


def test_arms_are_tried_beside_each_other_and_each_gets_its_own():
    several = (arm(), arm("plan"), arm(budget="r=16"))
    wanted = dict(zip((each.key for each in several), (1e-2, 2.5e-3, 5e-3), strict=True))
    curves, _ = searched(lambda one, rate, _steps: abs(math.log(rate / wanted[one.key])) + 1, arms=several)
    assert {key: curve.rate for key, curve in curves.items()} == pytest.approx(wanted)


def test_in_a_near_tie_an_arm_takes_the_rate_of_uniform_at_its_budget():
    several = (arm(), arm("plan"))
    wanted = {"uniform r=4": 1e-2, "plan r=4": 5e-3}
    near = 0.001
    curves, _ = searched(lambda one, rate, _s: near * abs(math.log(rate / wanted[one.key])) + 1, arms=several)
    assert curves["plan r=4"].rate == curves["uniform r=4"].rate


def test_steep_short_runs_are_told():
    curves, _ = searched(lambda _arm, rate, steps: abs(math.log(rate / 1e-2)) + 100 / steps)
    assert curves["uniform r=4"].steep
    assert "the loss of uniform r=4 still fell fast" in " ".join(weaknesses(curves.values()))
    curves, _ = searched(lambda _arm, rate, steps: abs(math.log(rate / 1e-2)) + 5 + 1 / steps)
    assert not curves["uniform r=4"].steep
    assert weaknesses(curves.values()) == []


def test_a_best_rate_at_the_end_of_what_was_tried_is_told():
    curves, _ = searched(lambda _arm, rate, _steps: 1 / rate)
    assert "is the last that was tried" in " ".join(weaknesses(curves.values()))
    short, _ = searched(lambda _arm, rate, _steps: abs(math.log(rate / 1e-2)) + 5, steps=30)
    assert "took more samples than it has" in " ".join(weaknesses(short.values()))


def test_where_every_rate_diverges_there_is_none():
    with pytest.raises(DataError, match="uniform r=4 diverges at every rate"):
        searched(lambda *_: math.inf)


def test_cores_alone_are_tried_at_higher_rates_first():
    core = Arm(name="core", budget="r=0.5", sizes={"core": {"a": 3}, "lora": {"a": 0}}, scale=2, parameters=9)
    both = Arm(name="both", budget="r=0.5", sizes={"core": {"a": 3}, "lora": {"b": 1}}, scale=2, parameters=9)
    curves, ran = searched(lambda arm, rate, steps: (math.log(rate) - math.log(0.04)) ** 2 + 1, arms=[core, both])
    first = {job.arm.name: [] for job in ran}
    for job in ran:
        first[job.arm.name].append(job.rate)
    assert first["core"][:3] == [5e-3, 2e-2, 8e-2]
    assert tuple(first["both"][:3]) == COARSE
    assert curves["core r=0.5"].rate == pytest.approx(0.04)
