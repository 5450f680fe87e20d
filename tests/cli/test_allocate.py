"""``layerlens allocate``: another plan from the same profile, without the model."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from layerlens_core.values.gains import GainCurve, Gains
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

Runs = Callable[..., Path]
LAYERS = [f"bert.encoder.layer.{i}" for i in range(4)]
#: A layer of the tiny BERT at rank 1: four maps 16 → 16, one 16 → 24, one 24 → 16.
RANK_ONE = 4 * 32 + 2 * 40


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "trace.jsonl").read_text().splitlines())
    return [event for event in lines if not kinds or event["event"] in kinds]


def test_a_run_is_planned_anew_without_the_model(
    layerlens: Any, own_model: Callable[[str], Path], data: Callable[[str], str], tmp_path: Path
) -> None:
    model, out = own_model("llama"), tmp_path / "run"
    layerlens.ok("plan", model, "--data", data("text"), "--budget", "params=r=4", "--out", out)
    before = Plan.load(out)
    shutil.rmtree(model)
    layerlens.ok("allocate", out, "--budget", "params=r=2")
    plan = Plan.load(out)
    assert plan.request.budget == ("params=r=2",)
    assert plan.limit == before.limit // 2
    assert 0 < plan.parameters <= plan.limit < before.parameters


def test_what_is_not_given_stays_as_it_was(layerlens: Any, run: Runs) -> None:
    there = run()
    layerlens.ok(
        "allocate", there, "--normalizer", "max", "--aggregator", "weighted-max", "--quantiles", "0.5",
        "--metric", "fisher=3", "--metric", "weight_gradient=1",
    )  # fmt: skip
    first = Plan.load(there)
    layerlens.ok("allocate", there, "--budget", "params=r=1")
    second = Plan.load(there)
    assert (second.request.budget, first.request.budget) == (("params=r=1",), ("params=r=2",))
    assert attrs.evolve(second.request, budget=first.request.budget) == first.request
    assert second.fingerprint == first.fingerprint
    assert second.request.options == {"quantiles": "0.5"}
    assert second.request.weights == {"fisher": 3.0, "weight_gradient": 1.0}


def test_new_methods_drop_the_options_that_went_with_the_old(layerlens: Any, run: Runs) -> None:
    there = run()
    layerlens.ok("allocate", there, "--quantiles", "0.5")
    layerlens.ok("allocate", there, "--methods", "prefix,lora")
    plan = Plan.load(there)
    assert plan.request.methods == ("none", "prefix", "lora")
    assert plan.request.options == {}


def test_the_same_command_gives_the_same_plan(layerlens: Any, run: Runs) -> None:
    there = run()
    made = []
    for budget in ("params=r=1", "params=r=3", "params=r=1"):
        layerlens.ok("allocate", there, "--budget", budget)
        made.append((there / "plan.json").read_bytes())
    assert made[0] == made[2] != made[1]


def test_the_plan_itself_is_made_again_from_its_profile(layerlens: Any, run: Runs) -> None:
    there = run()
    before = (there / "plan.json").read_bytes()
    layerlens.ok("allocate", there)
    assert (there / "plan.json").read_bytes() == before


def test_the_profile_and_its_events_stay(layerlens: Any, run: Runs) -> None:
    there = run()
    profile = (there / "profile.json").read_bytes()
    kinds = ("metric.scored", "profile.finished", "plugin.loaded", "module.unscored")
    before = events(there, *kinds)
    scored = Counter(event["metric"] for event in events(there, "metric.scored"))
    assert scored == {"fisher": 4 * 6, "weight_gradient": 4 * 6}
    lengths = []
    for _ in range(2):
        layerlens.ok("allocate", there, "--budget", "params=r=3")
        assert events(there, *kinds)[: len(before)] == before
        assert Counter(event["metric"] for event in events(there, "metric.scored")) == scored
        lengths.append(len(events(there)))
    assert lengths[0] == lengths[1]  # the trace is of the profile and the last plan, and does not grow
    assert (there / "profile.json").read_bytes() == profile
    assert [event["command"] for event in events(there, "run.started")] == ["plan", "allocate"]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_every_layer_has_one_utility_and_one_decision(layerlens: Any, run: Runs, times: int) -> None:
    there = run()
    for _ in range(times):
        layerlens.ok("allocate", there, "--budget", "params=r=3")
    assert [event["unit"] for event in events(there, "utility.computed")] == LAYERS
    assert [event["unit"] for event in events(there, "decision.made")] == LAYERS
    for kind in ("thresholds.set", "candidates.built", "budget.settled", "plan.made"):
        assert len(events(there, kind)) == 1, kind
    plan = Plan.load(there)
    assert events(there, "plan.made")[0]["digest"] == plan.digest
    for event, decision in zip(events(there, "decision.made"), plan.decisions, strict=True):
        assert (event["method"], event["sizes"]) == (decision.method, decision.sizes)
        assert (event["utility"], event["parameters"]) == (decision.utility, decision.parameters)
    settled = events(there, "budget.settled")[0]
    assert settled["asked"] == " ".join(plan.request.budget)
    assert (settled["limits"], settled["spent"]) == ({"params": plan.limit}, attrs.asdict(plan.cost))
    assert settled["spent"]["params"] == plan.parameters


def test_events_carry_what_the_utility_follows_from(layerlens: Any, run: Runs) -> None:
    there = run()
    scores = {each.metric: each.by_layer(Profile.load(there).inventory) for each in Profile.load(there).scores}
    for event in events(there, "utility.computed"):
        assert event["weights"] == {"fisher": 2.0, "weight_gradient": 1.0}
        mean = (2 * event["normalized"]["fisher"] + event["normalized"]["weight_gradient"]) / 3
        assert event["utility"] == pytest.approx(mean, rel=1e-12)
        for metric, raw in event["raw"].items():
            assert raw == scores[metric][event["unit"]]
            assert event["normalized"][metric] == pytest.approx(raw / sum(scores[metric].values()), rel=1e-12)


def test_layers_that_the_budget_drops_are_refused_by_name(layerlens: Any, run: Runs) -> None:
    there = run()
    layerlens.ok("allocate", there, "--budget", f"params={RANK_ONE}")
    plan = Plan.load(there)
    best = max(plan.decisions, key=lambda decision: decision.utility)
    assert [(d.unit, d.size, d.parameters) for d in plan.decisions if d.method == "lora"] == [(best.unit, 1, RANK_ONE)]
    thresholds = events(there, "thresholds.set")
    assert len(thresholds) == 1
    reached = {d.unit for d in plan.decisions if d.utility >= thresholds[0]["thresholds"][0]}
    refused = events(there, "candidate.refused")
    assert {event["unit"] for event in refused} == reached - {best.unit}
    assert len(refused) == len(reached) - 1 == 2
    for event, left in zip(refused, (3, 2), strict=True):  # from the least useful on, until one can have rank 1
        assert event["method"] == "lora"
        assert event["cause"] == (
            "the smallest size for every layer as useful as this one would take "
            f"{left * RANK_ONE} of params, above {RANK_ONE}"
        )


def test_a_run_without_a_trace_can_still_be_planned(layerlens: Any, run: Runs) -> None:
    there = run()
    (there / "trace.jsonl").unlink()
    layerlens.ok("allocate", there, "--budget", "params=r=1")
    assert "lora" in layerlens.ok("explain", there, "0").stdout


def test_gains_that_the_run_measured_count_unless_they_are_left_out(layerlens: Any, run: Runs, tmp_path: Path) -> None:
    there = run()
    curves = {
        "lora": GainCurve(ceiling=0.1, half=9.0, spread=0.02, source="measured by 6 arms"),
        "prefix": GainCurve(ceiling=1.0, half=0.5, spread=0.01, source="measured by 6 arms"),
    }
    asked = ("allocate", there, "--strategy", "budget", "--methods", "lora,prefix", "--budget", "params=r=8")
    layerlens.ok(*asked)
    shipped = Plan.load(there)
    assert shipped.request.gains == {}
    Gains(curves=curves, setting="0", profile="0" * 64).save(there)
    message = layerlens.refused(*asked, out=there)
    assert f"{there / 'gains.json'} was not measured for {there / 'profile.json'}; remove it, or compare" in message
    Gains(curves=curves, setting="0", profile=shipped.profile).save(there)
    layerlens.ok(*asked)
    assert Plan.load(there).request.gains == curves
    assert {event["method"]: event["half"] for event in events(there, "gain.measured")} == {"lora": 9.0, "prefix": 0.5}
    told = " ".join(layerlens.ok("explain", there, "0").stdout.split())
    assert "prefix 1·n/(n + 0.5) ± 0.01" in told
    assert "measured by 6 arms" in told
    assert json.loads(layerlens.ok("explain", there, "0", "--json").stdout)["gains"]["lora"]["half"] == 9.0
    layerlens.ok(*asked, "--gains", "shipped")
    assert Plan.load(there) == shipped
    # What was not measured stays out, and the others with it, as they count only beside each other.
    result = layerlens.ok(*asked[:5], "lora,adapter")
    assert "gains.json lacks adapter, so that measured gains are left out" in result.stderr
    assert Plan.load(there).request.gains == {}
    # Another run's are taken where that is asked for.
    other = Path(shutil.copytree(there, tmp_path / "other"))
    (other / "gains.json").unlink()
    assert "was not measured in this run" in layerlens.refused("allocate", there, "--gains", other, out=there)
    layerlens.ok(*("allocate", other), *asked[2:], "--gains", there)
    assert Plan.load(other).request.gains == curves


def test_another_directory_gets_a_whole_run_of_its_own(layerlens: Any, run: Runs, tmp_path: Path) -> None:
    from layerlens_core.auditing.audit import audit
    from layerlens_core.files.run import OF_PROFILE

    there, out = run(), tmp_path / "another"
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    result = layerlens.ok("allocate", there, "--budget", "params=r=1", "--out", out)
    assert f"the run lies in {out}" in result.stderr
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before
    assert Plan.load(out).request.budget == ("params=r=1",)
    for name in OF_PROFILE:
        assert (out / name).exists() == (there / name).exists()
    assert audit(out).ok
    layerlens.ok("explain", out, "0")
    # What is planned anew in either changes nothing in the other.
    layerlens.ok("allocate", out, "--budget", "params=r=3")
    layerlens.ok("allocate", there, "--budget", "params=r=4")
    assert (Plan.load(out).request.budget, Plan.load(there).request.budget) == (("params=r=3",), ("params=r=4",))
    assert audit(out).ok
    assert audit(there).ok


def test_a_directory_that_holds_a_run_is_kept_unless_it_may_be_replaced(
    layerlens: Any, run: Runs, tmp_path: Path
) -> None:
    there, out = run(), tmp_path / "another"
    layerlens.ok("allocate", there, "--out", out)
    assert "already holds a run" in layerlens.refused("allocate", there, "--out", out, out=out)
    layerlens.ok("allocate", there, "--budget", "params=r=1", "--out", out, "--overwrite")
    assert Plan.load(out).request.budget == ("params=r=1",)
    layerlens.ok("allocate", there, "--budget", "params=r=1", "--out", there)  # the run itself, as without --out
    assert Plan.load(there).request.budget == ("params=r=1",)


def test_ranks_and_scale_are_options_and_stay(layerlens: Any, run: Runs) -> None:
    there = run("llama")
    layerlens.ok("allocate", there, "--min-rank", "2", "--max-rank", "3", "--scale", "4", "--no-abstain")
    layerlens.ok("allocate", there, "--budget", "params=r=3")
    plan = Plan.load(there)
    assert (plan.request.min_rank, plan.request.max_rank, plan.scale) == (2, 3, 4)
    assert set(plan.sizes("lora").values()) <= {2, 3}
    message = layerlens.refused("allocate", there, "--min-rank", "5", out=there)
    assert "min_rank=5 is above max_rank=3" in message
