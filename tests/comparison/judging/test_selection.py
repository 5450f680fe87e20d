"""Which runs are judged."""

import math

import attrs
import pytest

from comparison.runs import LABELS, LONG, SHORT, arm, result, runs
from layerlens_core.comparison.judging.selection import chosen, made_finite
from layerlens_core.errors import ComparisonError
from layerlens_core.values.comparison import Schedule

FLAT = (2.0,) * len(LABELS)
BETTER = (1.5,) * len(LABELS)


def of(results, key="uniform r=4", rates=None):
    """The runs of one arm, and what was said."""
    found, told = chosen(results, LABELS, rates or {})
    return next(each for each in found if each.arm.key == key), told


def test_the_best_of_the_rates_that_all_seeds_have_is_chosen():
    results = runs({("uniform", 4): 0.0})
    results.append(result(arm(), BETTER, rate=4e-2, seed=0))
    own, told = of(results)
    assert (own.rate, own.rates, tuple(own.results)) == (1e-2, (5e-3, 1e-2, 2e-2, 4e-2), (0, 1, 2))
    assert any("chosen by the loss on the held-out examples" in line for line in told)


def test_a_rate_at_which_a_seed_diverged_is_not_chosen():
    results = [result(arm(), FLAT, rate=1e-2, seed=seed) for seed in range(3)]
    results += [result(arm(), BETTER if seed else None, rate=2e-2, seed=seed) for seed in range(3)]
    own, _ = of(results)
    assert (own.rate, own.diverged) == (1e-2, ())


def test_a_fixed_rate_is_taken_and_is_no_selection():
    own, told = of(runs({("uniform", 4): 0.0}), rates={"uniform r=4": 5e-3})
    assert own.rate == 5e-3
    assert told == ()
    with pytest.raises(ComparisonError, match=r"not trained at its fixed rate 0\.5"):
        chosen(runs({("uniform", 4): 0.0}), LABELS, {"uniform r=4": 0.5})


def test_an_arm_that_was_dropped_is_told():
    _, told = of(runs({("uniform", 4): 0.0}), rates={"uniform r=4": 5e-3, "plan r=1": 1e-2})
    assert told == ("plan r=1 was to be trained, and there is no result of it",)


def test_short_runs_are_the_sweep_and_are_not_judged():
    results = [result(arm(), FLAT, seed=seed) for seed in range(3)]
    results += [result(arm(), BETTER, rate=rate, seed=0, schedule=SHORT) for rate in (5e-3, 1e-2, 2e-2)]
    results += [result(arm("plan"), BETTER, seed=0, schedule=SHORT)]
    own, told = of(results)
    assert (own.rate, own.rates, own.grid) == (1e-2, (1e-2,), (5e-3, 1e-2, 2e-2))
    assert told == ("plan r=4 was not trained for as long as others, and is not judged",)


def test_runs_that_a_part_of_the_held_out_samples_judged_are_the_sweep_however_long_they_are():
    part = attrs.evolve(LONG, judged=50)
    swept = [result(arm(), BETTER[:50], rate=rate, schedule=part) for rate in (5e-3, 2e-2)]
    results = [result(arm(), FLAT), *swept]
    own, told = of(results)
    assert (own.rate, own.rates, own.grid, told) == (1e-2, (1e-2,), (5e-3, 1e-2, 2e-2), ())
    with pytest.raises(ComparisonError, match="only runs of a sweep"):
        chosen(swept, LABELS, {})
    every = attrs.evolve(LONG, judged=len(LABELS))
    assert of([result(arm(), FLAT, schedule=every)])[0].rate == 1e-2


def test_as_many_samples_in_smaller_batches_are_as_long():
    small = Schedule(steps=1399, batch=16)
    results = [result(arm(), FLAT, schedule=LONG), result(arm("small"), FLAT, schedule=small)]
    found, _ = chosen(results, LABELS, {})
    assert [each.arm.name for each in found] == ["uniform", "small"]


def test_seeds_that_are_missing_are_told():
    results = [result(arm(), FLAT, seed=seed) for seed in range(3)]
    results += [result(arm("plan"), FLAT, seed=seed) for seed in (0, 2)]
    own, told = of(results, "plan r=4")
    assert tuple(own.results) == (0, 2)
    assert told == ("plan r=4 lacks seed 1: differences are taken over the seeds that both arms have",)


def test_of_two_results_of_a_job_the_later_counts():
    own, _ = of([result(arm(), FLAT), result(arm(), BETTER)])
    assert own.results[0].losses == BETTER


def test_a_loss_that_is_not_finite_is_a_run_that_diverged_unless_it_has_no_label():
    labels = (0, 2, 2)
    results = [result(arm(), losses) for losses in ((math.nan, 1, 1), (1, 1, math.inf))]
    assert [each.diverged for each in made_finite(results, labels)] == [False, True]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([], "no results"),
        ([result(arm(), FLAT), result(arm(), FLAT, setting="other")], "2 settings"),
        ([result(arm(), FLAT[1:])], "uniform r=4 at rate 0.01, seed 0, has losses of 119 held-out samples"),
        ([result(arm(), FLAT, right=(1.0,))], "has right answers of 1 held-out"),
        ([result(arm(), (0.0,) * len(LABELS))], "held-out loss of 0"),
        ([result(arm(), ())], "no losses, and did not diverge"),
    ],
)
def test_what_cannot_be_judged_is_refused(results, words):
    with pytest.raises(ComparisonError, match=words):
        chosen(results, LABELS, {})
