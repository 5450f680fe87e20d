"""``layerlens audit``: what it prints, how it ends, and what becomes of files that are missing, cut or of two runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from auditing.made import compare, make_run, profile_of
from auditing.single import forge

from layerlens_core.allocation.allocate import allocate
from layerlens_core.files.run import DIRECTIONS, PLAN, PROFILE, RECIPE, TRACE
from layerlens_core.values.plan import Plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("made")
    make_run(root / "run", profile_of("bert"), vectors=True, compared=True, strategy="threshold", budget="params=r=2")
    return root / "run"


@pytest.fixture
def there(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edited(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def failed(layerlens: Any, *arguments: object) -> Any:
    result = layerlens("audit", *arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result


def test_a_run_that_follows_is_told_with_what_was_checked(layerlens: Any, there: Path) -> None:
    result = layerlens.ok("audit", there)
    for told in (
        "decisions and their costs",
        "scores, from statistics",
        "events of the plan",
        "digests of other files",
    ):
        assert told in result.stdout
    assert f"{there}: everything that was checked follows" in result.stderr
    assert "not replayed: profile.json: stability: it compares halves of the samples" in result.stderr
    assert "not replayed: compare/comparison.json: losses, rates and verdict: they come from training" in result.stderr


def test_json_holds_findings_and_what_was_not_replayed(layerlens: Any, there: Path) -> None:
    document = json.loads(layerlens.ok("audit", there, "--json").stdout)
    assert (document["ok"], document["findings"], document["ulps"]) == (True, [], 0)
    edited(there / PLAN, notes=["another"])
    document = json.loads(failed(layerlens, there, "--json").stdout)
    assert document["ok"] is False
    first = document["findings"][0]
    assert (first["file"], first["field"], first["kind"]) == (PLAN, "notes (entries)", "derivation")
    assert (first["expected"], first["found"]) == (0, 1)


def test_the_first_field_that_does_not_follow_is_told_and_how_many_more(layerlens: Any, there: Path) -> None:
    plan = json.loads((there / PLAN).read_text())
    plan["decisions"][1]["reason"] = "because"
    edited(there / PLAN, decisions=plan["decisions"])
    lines = failed(layerlens, there).stderr.splitlines()
    assert lines[-1].startswith(f"{there}: plan.json, decisions[1].reason: expected ")
    assert "found because; it follows from the profile and the plan's request; and 3 more" in lines[-1]


def test_a_directory_without_a_run_is_bad_input(layerlens: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no run: there is no profile.json and no plan.json" in layerlens.refused("audit", tmp_path / "empty")
    assert "nowhere holds no run" in layerlens.refused("audit", tmp_path / "nowhere")


@pytest.mark.parametrize("name", [PROFILE, PLAN, RECIPE, TRACE])
def test_a_file_of_another_version_is_bad_input_and_says_what_to_do(layerlens: Any, there: Path, name: str) -> None:
    if name == TRACE:
        first, _, rest = (there / TRACE).read_text().partition("\n")
        (there / TRACE).write_text(json.dumps(json.loads(first) | {"version": 99}) + "\n" + rest)
    else:
        edited(there / name, version=99)
    message = layerlens.refused("audit", there)
    assert f"{there / name} is of version 99; this LayerLens reads version" in message
    if name != TRACE:
        assert "a newer one wrote it, so update this one" in message
        edited(there / name, version=1)
        assert "anew with: layerlens" in layerlens.refused("audit", there)


def test_a_run_without_a_trace_is_replayed_and_says_so(layerlens: Any, there: Path) -> None:
    (there / TRACE).unlink()
    told = layerlens.ok("audit", there).stderr
    assert "not replayed: trace.jsonl: there is none" in told
    assert "no versions are recorded; numbers may differ by 16 units in the last place" in told
    edited(there / PLAN, notes=["another"])
    assert "plan.json, notes (entries): expected 0, found 1" in failed(layerlens, there).stderr


def test_a_trace_cut_short_is_audited_as_far_as_it_goes(layerlens: Any, there: Path) -> None:
    content = (there / TRACE).read_bytes()
    at = content.index(b'"decision.made"') + 5
    (there / TRACE).write_bytes(content[:at])
    told = failed(layerlens, there).stderr
    assert "its last line is not 'trace.sealed'" in told or "is not valid JSON" in told
    assert "of its events, from decision.made on: they are not there" in told
    document = json.loads(failed(layerlens, there, "--json").stdout)
    assert {each["kind"] for each in document["findings"]} == {"reader", "seal"}
    assert any(each["what"] == "events of the plan" for each in document["checked"])


def test_a_profile_alone_is_audited_as_far_as_it_goes(layerlens: Any, tmp_path: Path) -> None:
    profile_of("bert").save(tmp_path)
    told = layerlens.ok("audit", tmp_path)
    assert "not replayed: plan.json: there is none; the run is a profile alone" in told.stderr
    assert "scores, from statistics" in told.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (PROFILE, "profile.json: expected a file, found nothing"),
        (PLAN, "plan.json: expected a file, found nothing; trace.jsonl tells of it"),
        (DIRECTIONS, "directions.safetensors: expected a file, found nothing; profile.json names it in directions"),
    ],
)
def test_a_file_that_is_missing_is_told(layerlens: Any, there: Path, name: str, told: str) -> None:
    (there / name).unlink()
    assert told in failed(layerlens, there).stderr


def test_files_of_two_runs_are_told(layerlens: Any, there: Path, tmp_path: Path) -> None:
    """Of one model and the same data, so that only numbers differ."""
    profile = profile_of("bert")
    other = tmp_path / "other"
    make_run(other, profile, vectors=True, compared=True, strategy="threshold", budget="params=r=4")
    for name in (PLAN, TRACE, RECIPE):
        run = Path(shutil.copytree(there, tmp_path / f"with-{name}"))
        shutil.copy(other / name, run / name)
        assert failed(layerlens, run)
    run = Path(shutil.copytree(there, tmp_path / "mixed"))
    edited(run / PROFILE, loss=1.5)
    for command in (["explain"], ["export", "--to", "axolotl", "--model", str(tmp_path), "--out", tmp_path / "out"]):
        message = layerlens.refused(command[0], run, *command[1:])
        assert f"{run / PLAN}: the plan was not made from this profile: it names" in message
        assert f"plan anew with: layerlens allocate {run}" in message


def test_another_plan_takes_the_recipe_away_and_the_same_one_does_not(layerlens: Any, there: Path) -> None:
    layerlens.ok("allocate", there, "--gains", "shipped")
    assert (there / RECIPE).exists()
    layerlens.ok("audit", there)
    layerlens.ok("allocate", there, "--budget", "params=r=4")
    assert not (there / RECIPE).exists()
    layerlens.ok("audit", there)
    compare(there, Plan.load(there))
    layerlens.ok("audit", there)


def test_with_other_versions_last_digits_may_differ_and_others_not(layerlens: Any, there: Path) -> None:
    def digit(value: float, by: int) -> None:
        plan = json.loads((there / PLAN).read_text())
        for decision in plan["decisions"]:
            decision["utility"] *= 1 + by * 2.0**-52
        edited(there / PLAN, decisions=plan["decisions"])
        forge(there)

    digit(1, 4)
    assert "decisions[0].utility" in failed(layerlens, there).stderr
    text = (there / TRACE).read_text()
    here = json.loads(text.splitlines()[1])["versions"]["numpy"]
    (there / TRACE).write_text(text.replace(f'"numpy": "{here}"', '"numpy": "0.1"'))
    forge(there)
    told = layerlens("audit", there)
    assert told.exit_code == 0, told.output
    assert f"other versions: numpy 0.1, here {here}; numbers may differ by 16 units in the last place" in told.stderr
    digit(1, 100)
    assert "decisions[0].utility" in failed(layerlens, there).stderr


def test_a_strategy_that_is_not_there_is_said_where_its_plugin_is_missing(layerlens: Any, there: Path) -> None:
    edited(there / PLAN, request=json.loads((there / PLAN).read_text())["request"] | {"strategy": "elsewhere"})
    forge(there)
    told = failed(layerlens, there).stderr
    assert (
        "plan.json, request: all plugins are here that were loaded then, but no strategy is named 'elsewhere'" in told
    )
    text = (there / TRACE).read_text()
    loaded = next(line for line in text.splitlines() if '"plugin.loaded"' in line)
    (there / TRACE).write_text(text.replace(loaded, json.dumps(json.loads(loaded) | {"version": "99"})))
    forge(there)
    told = layerlens.ok("audit", there).stderr
    assert "not replayed: plan.json: all that is decided: no strategy is named 'elsewhere'" in told


def test_a_plan_of_the_library_without_a_trace_follows(layerlens: Any, tmp_path: Path) -> None:
    profile = profile_of("llama")
    profile.save(tmp_path)
    allocate(profile, strategy="budget", budget="params=r=2").save(tmp_path)
    layerlens.ok("audit", tmp_path)


@pytest.mark.torch
def test_runs_of_models_follow(layerlens: Any, finished_runs: dict[str, Path]) -> None:
    for run in finished_runs.values():
        result = layerlens.ok("audit", run)
        assert "trace.jsonl" in result.stdout
    assert "not replayed: profile.json: the scores of gora: the metric runs the model" in result.stderr
