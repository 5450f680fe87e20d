"""Whole runs at the rates that short ones chose, halved where a run falls off the cliff."""

import pytest

from layerlens_core.comparison.options import CompareOptions
from layerlens_core.comparison.rate_search import Curve, Point
from layerlens_core.comparison.rates import JUDGED
from layerlens_core.comparison.whole_runs import HALVINGS, at_found_rates
from layerlens_core.values.comparison import Arm, Result, Schedule, Setting

SCHEDULE = Schedule(steps=100, batch=4)
ARM = Arm(name="uniform", budget="r=4", sizes={"lora": {"x": 4}}, scale=2, parameters=4)


def trained(losses_of, *, least=1.0, samples=JUDGED + 100, seeds=1):
    """The rate that an arm ends with, where ``losses_of`` tells a run's held-out losses by rate and seed."""
    setting = Setting(model="", task="", data="", held_out="", labels=(1,) * samples, precision="")
    points = (Point(rate=1e-2, steps=6, batch=4, loss=least),)
    curves = {ARM.key: Curve(arm=ARM.key, points=points, rate=1e-2, steps=100, batch=4)}

    def done(_stage, jobs):
        found = [(job, losses_of(job.rate, job.seed)) for job in jobs]
        return [Result(job=job, losses=losses or (), diverged=losses is None) for job, losses in found]

    results, rates = at_found_rates([ARM], curves, SCHEDULE, setting, CompareOptions(seeds=seeds), done)
    return results, rates[ARM.key]


def test_a_rate_at_which_a_run_collapses_is_halved_for_all_seeds():
    results, rate = trained(lambda rate, seed: (5.0 if rate > 5e-3 and seed == 1 else 0.5,) * 356, seeds=3)
    assert rate == 5e-3
    assert len(results) == 6


@pytest.mark.parametrize("losses", [(1.05,) * (JUDGED + 100), (0.9,) * JUDGED + (9.0,) * 100])
def test_little_worse_or_worse_on_other_samples_is_no_cliff(losses):
    """Short runs are judged on the first held-out samples alone, and a whole run may learn samples by heart."""
    results, rate = trained(lambda _rate, _seed: losses)
    assert rate == 1e-2
    assert len(results) == 1


def test_where_every_rate_falls_off_the_last_one_with_results_stands():
    results, rate = trained(lambda _rate, _seed: None)
    assert rate == 1e-2 / 2**HALVINGS
    assert {result.job.rate for result in results} == {1e-2 / 2**n for n in range(HALVINGS + 1)}
