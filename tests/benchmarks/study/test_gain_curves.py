"""The study's gain curves, from rows whose curves are known."""

import json

import pytest
from benchmarks.study.gain_curves import (  # type: ignore[import-not-found]
    arms_of,
    best_losses,
    main,
    notches,
    read,
)

from bert_profile import bert_profile
from layerlens_core.comparison.arms.make import make_arms
from layerlens_core.errors import PlanError

TRUTH = {"lora": (1.0, 6.0), "adapter": (0.8, 3.0), "prefix": (0.4, 1.0)}
RANKS = (1, 4, 16)


def row(task, arm, rank, loss, *, rate=1e-2, seed=0, steps=700, parameters=None):
    parameters = 1000 * rank if parameters is None else parameters
    return {
        "task": task, "arm": arm, "budget": f"r={rank}", "rate": rate, "seed": seed, "steps": steps,
        "parameters": parameters, "loss": loss, "accuracy": None, "job": "0", "seconds": 1.0,
    }  # fmt: skip


def rows_of(task, *, scale, none):
    """Two seeds at two rates, of which the lower is the better, after short runs that say nothing."""
    rows = [row(task, "none", 1, none + off, rate=rate, parameters=0) for rate, off in ((1e-3, 0.0), (1e-2, 0.2))]
    for method, (top, half) in TRUTH.items():
        for rank in RANKS:
            loss = none - scale * top * rank / (rank + half)
            for seed, away in ((0, 0.01), (1, -0.01)):
                rows += [
                    row(task, f"method:{method}", rank, loss + away, seed=seed),
                    row(task, f"method:{method}", rank, loss + 0.5, rate=2e-2, seed=seed),
                    row(task, f"method:{method}", rank, 0.0, rate=5e-3, seed=seed, steps=44),
                ]
            # A better loss of one seed alone does not count, nor does a rate at which one diverged.
            rows.append(row(task, f"method:{method}", rank, 0.0, rate=4e-2))
            rows += [
                row(task, f"method:{method}", rank, x, rate=8e-2, seed=s) for s, x in ((0, 0.0), (1, float("inf")))
            ]
    return rows


@pytest.fixture
def files(tmp_path):
    made = []
    for task, scale, none in (("one", 1.5, 3.0), ("other", 0.4, 6.0)):
        made.append(tmp_path / f"{task}.jsonl")
        made[-1].write_text("".join(json.dumps(each) + "\n" for each in rows_of(task, scale=scale, none=none)))
    return made


def test_known_curves_come_back_over_two_tasks(files, capsys):
    main(files)
    said = capsys.readouterr().out
    after = said.split("all (fitted to 18 arms on one, other):\n")[1].splitlines()
    for told, (method, (top, half)) in zip(after, sorted(TRUTH.items()), strict=False):
        assert told.split()[0] == method
        numbers = told.replace(")", " ").split()
        assert float(numbers[1]) == pytest.approx(top, abs=2e-3)
        assert float(numbers[5]) == pytest.approx(half, abs=2e-2)
    assert "LORA = Curve(ceiling=1, half=6, source=" in said


def test_an_arm_counts_at_its_best_rate_with_the_mean_of_its_seeds(files):
    rows, profile = read(files)["one"]
    assert profile is None
    losses = best_losses(rows)
    assert losses["none", "r=1"] == (0, 3.0)
    assert losses["method:lora", "r=4"][1] == pytest.approx(3.0 - 1.5 * 4 / 10)


def test_without_none_there_is_nothing_to_gain_from():
    with pytest.raises(PlanError, match="one has no whole run of the arm 'none'"):
        arms_of("one", [each for each in rows_of("one", scale=1.0, none=3.0) if each["arm"] != "none"], None)


@pytest.mark.parametrize("method", TRUTH)
def test_sizes_follow_from_parameters(method):
    from layerlens_core.allocation.allocate import allocate
    from layerlens_core.comparison.measured_gains import notches as of_arm

    profile = bert_profile([1.0, 2.0, 3.0])
    (arm,), _ = make_arms([f"method:{method}"], ["r=6"], profile=profile, plan=allocate(profile))
    found = notches(method, "r=6", arm.parameters, profile)
    assert found == pytest.approx(of_arm(arm, method), rel=0.05)
    assert notches(method, "r=6", arm.parameters, None) == 6.0
