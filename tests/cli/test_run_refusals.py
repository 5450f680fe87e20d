"""Runs that are missing, damaged or of another version are named, and left as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerlens_core.files.trace.lines import written


def _needed(command: str, tmp_path: Path) -> tuple[object, ...]:
    """Options without which a command on a run does not start."""
    model = ("--model", "any", "--out", tmp_path / "adapter")
    return {"apply": model, "export": (*model, "--to", "peft")}.get(command, ())


@pytest.mark.parametrize("command", ["allocate", "explain", "apply", "export"])
def test_a_run_that_does_not_exist_is_named(layerlens: Any, tmp_path: Path, command: str) -> None:
    options = _needed(command, tmp_path)
    message = layerlens.refused(command, tmp_path / "nowhere", *options)
    assert f"{tmp_path / 'nowhere'}" in message
    assert f"does not exist; is {tmp_path / 'nowhere'} the directory of a run?" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["allocate", "explain", "apply", "export"])
def test_a_run_that_is_a_file_is_named(layerlens: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.touch()
    options = _needed(command, tmp_path)
    assert "is " + str(file) + " the directory of a run?" in layerlens.refused(command, file, *options)


def _damage(path: Path, change: str) -> None:
    document = json.loads(path.read_text())
    if change == "cut":
        path.write_text(path.read_text()[:200])
    elif change == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    else:
        if change == "list":
            document = [document]
        elif change == "version":
            document["version"] = 99
        elif change == "schema":
            document["schema"] = "somebody/else"
        elif change == "missing":
            del document["task"]
        elif change == "more":
            document["surprise"] = 1
        elif change == "type":
            document["decisions" if path.name == "plan.json" else "statistics"] = [{"unit": 5}]
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut", "is not valid JSON"),
        ("binary", "is not valid JSON"),
        ("list", "is not a layerlens/"),
        ("schema", "is not a layerlens/"),
        ("version", "is of version 99; this LayerLens reads version"),
        ("missing", "is damaged: required field missing"),
        ("more", "is damaged: extra fields found (surprise)"),
        ("type", "is damaged: "),
    ],
)
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("explain", "plan.json"),
        ("apply", "plan.json"),
        ("export", "plan.json"),
        ("allocate", "plan.json"),
        ("allocate", "profile.json"),
    ],
)
def test_files_that_are_damaged_or_of_another_version_are_named(
    layerlens: Any, run: Callable[..., Path], tmp_path: Path, command: str, name: str, change: str, said: str
) -> None:
    there = run()
    _damage(there / name, change)
    options = _needed(command, tmp_path)
    message = layerlens.refused(command, there, *options, out=there)
    assert f"{there / name} {said}" in message
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("", "is empty"),
        ("{}\n", "line 1, is no event of a trace"),
        ("[]\n", "line 1, is no event of a trace"),
        ('{"event": "plan.ma', "line 1, is not valid JSON"),
        ('{"event": "run.started", "command": "plan"}\n', "an earlier LayerLens wrote it"),
        ('{"event": "trace.opened", "schema": "layerlens/trace", "version": 0}\n', "is of version 0; this LayerLens"),
        (written([]), "is not the trace of"),
    ],
)
def test_a_trace_that_is_not_the_plans_is_named(
    layerlens: Any, run: Callable[..., Path], trace: str | None, said: str
) -> None:
    there = run()
    (there / "trace.jsonl").unlink()
    if trace is not None:
        (there / "trace.jsonl").write_text(trace)
    message = layerlens.refused("explain", there, "0", out=there)
    assert str(there / "trace.jsonl") in message
    assert said in message


def test_allocate_refuses_a_damaged_trace_and_leaves_the_run(layerlens: Any, run: Callable[..., Path]) -> None:
    there = run()
    (there / "trace.jsonl").write_text("{}\n")
    assert "line 1, is no event" in layerlens.refused("allocate", there, "--budget", "params=r=1", out=there)


def test_an_unknown_layer_is_answered_with_those_that_there_are(layerlens: Any, finished_runs: dict[str, Path]) -> None:
    there = finished_runs["bert-classifier"]
    message = layerlens.refused("explain", there, "bert.encoder.layer.7", out=there)
    assert "no layer 'bert.encoder.layer.7'; it has bert.encoder.layer.0 to bert.encoder.layer.3 (0 to 3)." in message
    assert "Did you mean 'bert.encoder.layer." in message
    assert "no layer '4'" in layerlens.refused("explain", there, "4", out=there)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "params=207"], "the cheapest candidate, lora of size 1, takes 208"),
        (["--metric", "fisher=1"], "without a weight: weight_gradient"),
        (["--metric", "fisher=1", "--metric", "weight_gradien=1"], "Did you mean 'weight_gradient'?"),
        (["--strategy", "treshold"], "Did you mean 'threshold'?"),
        (["--thresholds", "1,2"], "need 1 "),
        (["--normalizer", "shares"], "Did you mean 'share'?"),
    ],
)
def test_a_plan_that_cannot_be_made_anew_leaves_the_old_one(
    layerlens: Any, run: Callable[..., Path], options: list[str], said: str
) -> None:
    there = run()
    assert said in layerlens.refused("allocate", there, *options, out=there)
