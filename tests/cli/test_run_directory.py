"""A run is replaced as a whole or not at all, by one process at a time, and every refusal says what to do."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.in_process import listing
from layerlens_core.files.atomic import DONE, NEW
from layerlens_core.files.run import FILES, GAINS, RECIPE, SUBSPACE, rewriting

Model = Callable[[str], str]
Data = Callable[[str], str]


def told(stderr: str) -> list[str]:
    """The lines of an error; how many rows were read is said before, whatever then happens."""
    return [line for line in stderr.splitlines() if "rows read" not in line]


@pytest.fixture
def plan(layerlens: Any, model: Model, data: Data) -> Callable[..., Any]:
    """``layerlens plan`` of the small Llama into a directory."""
    return lambda out, *more: layerlens("plan", model("llama"), "--data", data("text"), "--out", out, *more)


def test_a_profile_without_a_plan_is_planned_by_allocate(layerlens: Any, run: Any, plan: Any) -> None:
    there = run("llama")
    whole = (there / "plan.json").read_bytes()
    (there / "plan.json").unlink()
    (there / "trace.jsonl").unlink()
    result = plan(there, "--resume")
    assert result.exit_code == 2
    assert f"plan from its profile, which is complete: layerlens allocate {there}" in result.stderr
    layerlens.ok("allocate", there, "--budget", "params=r=2", "--no-abstain")
    assert (there / "plan.json").read_bytes() == whole
    layerlens.ok("explain", there, "0")


def test_beside_an_old_run_an_interrupted_profile_is_told(run: Any, plan: Any) -> None:
    there = run("llama")
    (there / "profile.partial").touch()
    result = plan(there, "--resume")
    assert result.exit_code == 2
    assert "--overwrite --resume goes on with that, --overwrite begins anew" in result.stderr


def test_a_new_run_takes_the_place_of_all_of_the_old_one(layerlens: Any, run: Any, model: Model, data: Data) -> None:
    there = run("llama")
    for name in ("directions.safetensors", "profile.partial", "profile.partial-1", "notes.txt"):
        (there / name).write_text("old")
    layerlens.ok("profile", model("llama"), "--data", data("text"), "--out", there, "--overwrite")
    assert sorted(path.name for path in there.iterdir()) == ["notes.txt", "profile.json", "trace.jsonl"]


def test_a_run_that_was_decided_on_is_finished_by_whoever_reads_it(layerlens: Any, run: Any, tmp_path: Path) -> None:
    new = listing(run("llama"))
    assert new is not None
    for moved in range(len(new) + 1):
        there = tmp_path / str(moved)
        shutil.copytree(run("bert-classifier"), there)
        shutil.rmtree(tmp_path / "run-bert-classifier")
        (there / DONE).mkdir()
        for name, content in new.items():
            (there / DONE / name).write_bytes(content)
        for name in sorted(new)[:moved]:
            os.replace(there / DONE / name, there / name)
        layerlens.ok("explain", there)
        assert listing(there) == new


def test_what_a_killed_command_left_goes_with_the_next(layerlens: Any, run: Any) -> None:
    there = run("llama")
    before = listing(there)
    (there / NEW).mkdir()
    (there / NEW / "profile.json").write_text("half")
    (there / ".trace.jsonl.abcd1234").touch()
    layerlens.ok("explain", there)
    assert listing(there) == before


def test_a_mixture_of_two_runs_is_refused(layerlens: Any, run: Any, tmp_path: Path) -> None:
    one, other = run("llama"), run("bert-classifier")
    for name in ("profile.json", "plan.json"):
        mixed = Path(shutil.copytree(one, tmp_path / f"mixed-{name}"))
        shutil.copy(other / name, mixed)
        for command in (("explain", mixed), ("explain", mixed, "0"), ("apply", mixed, "--model", "m", "--out", "a")):
            message = layerlens.refused(*command, out=mixed)
            assert (
                f"the plan was not made from this profile: its model differ; plan anew with: layerlens allocate {mixed}"
                in message
            )


def test_a_profile_that_was_changed_is_refused(layerlens: Any, run: Any) -> None:
    there = run("llama")
    profile = json.loads((there / "profile.json").read_text())
    (there / "profile.json").write_text(json.dumps({**profile, "loss": profile["loss"] + 1}))
    assert "the plan was not made from this profile" in layerlens.refused("explain", there, "0", out=there)


@pytest.mark.parametrize("name", [name for name in FILES if name not in (RECIPE, GAINS, SUBSPACE)])
def test_a_full_disk_leaves_the_old_run(plan: Any, run: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    there = run("llama")
    before = listing(there)
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    result = plan(there, "--overwrite", "--directions")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert len(told(result.stderr)) == 1
    assert listing(there) == before


def test_a_directory_that_is_removed_midway_is_made_again(
    plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from layerlens_core.allocation import problem

    real = problem.check_decisions  # type: ignore[attr-defined]

    def check(*arguments: Any) -> Any:
        if (tmp_path / "run").exists():
            shutil.rmtree(tmp_path / "run")
        return real(*arguments)

    monkeypatch.setattr(problem, "check_decisions", check)
    assert plan(tmp_path / "run").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["plan.json", "profile.json", "trace.jsonl"]


@pytest.mark.parametrize("name", ["a" * 300, "x/" * 3000])
def test_a_name_that_is_too_long_is_told_in_one_line(
    layerlens: Any, model: Model, data: Data, tmp_path: Path, name: str
) -> None:
    long = tmp_path / name
    for command in (
        ("plan", model("llama"), "--data", data("text"), "--out", long),
        ("explain", long),
        ("allocate", long),
    ):
        result = layerlens(*command)
        assert result.exit_code == 2
        assert "File name too long" in result.stderr
        assert len(told(result.stderr)) == 1


def test_a_pipe_in_place_of_a_file_is_told(layerlens: Any, run: Any) -> None:
    there = run("llama")
    for name in ("profile.json", "plan.json", "trace.jsonl"):
        content = (there / name).read_bytes()
        (there / name).unlink()
        os.mkfifo(there / name)
        result = layerlens("explain", there, "0")
        assert result.exit_code == 2
        assert f"{there / name} cannot be read: it is no plain file" in result.stderr
        (there / name).unlink()
        (there / name).write_bytes(content)


def test_a_path_of_any_bytes_can_be_planned_and_planned_again(
    layerlens: Any, model: Model, data: Data, tmp_path: Path
) -> None:
    for number, name in enumerate(
        ("a\u2028b\u0085c\u2029.jsonl", os.fsdecode(b"\xff\xfe.jsonl"), "tab\there\nthere.jsonl")
    ):
        file, out = tmp_path / name, tmp_path / str(number)
        shutil.copy(data("text"), file)
        layerlens.ok("plan", model("llama"), "--data", file, "--out", out)
        layerlens.ok("allocate", out, "--budget", "params=r=1")
        layerlens.ok("explain", out, "0")
        events = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
        assert str(file) in {event["arguments"].get("data") for event in events if event["event"] == "run.started"}


def test_without_a_profile_files_replace_those_of_their_names_and_another_plan_takes_the_recipe_away(
    tmp_path: Path,
) -> None:
    for name in (*FILES, "profile.partial"):
        (tmp_path / name).write_text("old")
    with rewriting(tmp_path) as staging:
        staging.mkdir()
        (staging / "plan.json").write_text("new")
    assert listing(tmp_path) == {
        name: b"new" if name == "plan.json" else b"old" for name in (*FILES, "profile.partial") if name != RECIPE
    }
