"""What apply and export cannot do with a plan and a model is said before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Model = Callable[[str], str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_apply_refuses_another_model(layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path) -> None:
    there, out = run("llama"), tmp_path / "adapter"
    message = layerlens.refused("apply", there, "--model", model("bert"), "--out", out, out=out)
    assert "the plan is for another model: LlamaForCausalLM, but this is Bert" in message
    assert "it has no module model.layers.0." in message


def test_apply_refuses_a_model_of_another_shape(
    layerlens: Any, run: Callable[..., Path], own_model: Callable[[str], Path], tmp_path: Path
) -> None:
    there, other, out = run("llama"), own_model("llama"), tmp_path / "adapter"
    config = json.loads((other / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (other / "config.json").write_text(json.dumps(config))
    message = layerlens.refused("apply", there, "--model", other, "--out", out, out=out)
    assert "the plan is for another model" in message


def test_apply_refuses_a_method_whose_provider_is_gone_before_loading(
    layerlens: Any, run: Callable[..., Path], tmp_path: Path
) -> None:
    there, out = run(), tmp_path / "adapter"
    plan = (there / "plan.json").read_text()
    (there / "plan.json").write_text(plan.replace('"method": "lora"', '"method": "vera"'))
    message = layerlens.refused("apply", there, "--model", tmp_path / "no-model", "--out", out, out=out)
    assert "no method is named 'vera'" in message


def test_apply_refuses_a_plan_that_trains_nothing(
    layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path
) -> None:
    there, out = run("llama"), tmp_path / "adapter"
    layerlens.ok("allocate", there, "--thresholds", "1000")
    message = layerlens.refused("apply", there, "--model", model("llama"), "--out", out, out=out)
    assert "the plan trains nothing" in message


def test_apply_refuses_the_directory_of_the_model(
    layerlens: Any, finished_runs: dict[str, Path], own_model: Callable[[str], Path]
) -> None:
    model = own_model("llama")
    message = layerlens.refused(
        "apply", finished_runs["llama"], "--model", model, "--out", model, "--overwrite", out=model
    )
    assert "is the directory of the model" in message


def test_apply_refuses_an_output_that_is_a_file(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        message = layerlens.refused(
            "apply", finished_runs["llama"], "--model", model("llama"), "--out", place, out=file
        )
        assert f"{file} is a file" in message


@pytest.mark.parametrize("to", ["peft", "trl"])
def test_export_names_a_model_that_is_not_there(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, out: Path, to: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    said = {"file": "is a file; name its directory", "empty": "has no config.json", "nowhere": "does not exist"}
    for name, reason in said.items():
        arguments = ("export", finished_runs["llama"], "--to", to, "--model", tmp_path / name)
        message = layerlens.refused(*arguments, "--out", out, out=out)
        assert f"{tmp_path / name} {reason}" in message


def test_export_refuses_an_output_that_is_a_file(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for place in (file, file / "below"):
        arguments = ("export", finished_runs["llama"], "--to", "peft", "--model", model("llama"))
        message = layerlens.refused(*arguments, "--out", place, out=file)
        assert message == f"Error: {file} is a file; --out must name a directory\n"
