"""``layerlens apply`` of mixed plans and with ``--init gradient``, and what its side file can have wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from layerlens_core.adaptation.initialisation import ROW_NORM
from layerlens_core.adaptation.load import load
from layerlens_core.files.directions import read_directions
from layerlens_core.values.plan import Plan

Data = Callable[[str], str]
Model = Callable[[str], str]


@pytest.fixture
def directed(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> Path:
    """A run with directions."""
    run = tmp_path / "run"
    layerlens.ok(
        "plan", model("llama"), "--data", data("text"), "--directions", "--budget", "params=r=2", "--out", run
    )  # fmt: skip
    return run


def test_a_starts_along_the_directions_and_b_at_zero(layerlens: Any, model: Model, directed: Path) -> None:
    out, plan = directed.parent / "adapter", Plan.load(directed)
    layerlens.ok("apply", directed, "--model", model("llama"), "--out", out, "--init", "gradient")
    weights = load_file(out / "adapter_model.safetensors")
    directions = read_directions(directed, fingerprint=plan.fingerprint, digest=plan.directions)
    for name, rank in plan.sizes("lora").items():
        a = weights[f"base_model.model.{name}.lora_A.weight"]
        found = torch.from_numpy(directions[name].right[:rank].copy())
        torch.testing.assert_close(a[: len(found)], ROW_NORM * found)
        assert not weights[f"base_model.model.{name}.lora_B.weight"].any()


@pytest.mark.parametrize("wrong", ["missing", "damaged", "another"])
def test_directions_that_are_not_the_profiles_are_refused_before_loading(
    layerlens: Any, directed: Path, tmp_path: Path, wrong: str
) -> None:
    file = directed / "directions.safetensors"
    if wrong == "missing":
        file.unlink()
    elif wrong == "damaged":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    out = tmp_path / "adapter"
    message = layerlens.refused(
        "apply", directed, "--model", tmp_path / "no-model", "--out", out, "--init", "gradient", out=out
    )
    expected = (
        "does not exist" if wrong == "missing" else "is damaged, or not the file that its profile was written with"
    )
    assert expected in message
    assert "profile again with --directions" in message


def test_a_run_without_directions_says_how_to_get_them(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path
) -> None:
    out, run = tmp_path / "adapter", finished_runs["llama"]
    message = layerlens.refused("apply", run, "--model", "none", "--out", out, "--init", "gradient", out=out)
    assert "holds no directions to start along; profile again with --directions" in message


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_mixed_plan_is_applied_and_loads_again(
    layerlens: Any, run: Callable[[str], Path], model: Model, tmp_path: Path, family: str
) -> None:
    there, out = run("llama" if family == "llama" else "bert-classifier"), tmp_path / "adapter"
    layerlens.ok("allocate", there, "--methods", "none,prefix,adapter,lora", "--quantiles", "0.25,0.5,0.75")
    plan = Plan.load(there)
    assert {decision.method for decision in plan.decisions} == {"none", "prefix", "adapter", "lora"}
    result = layerlens.ok("apply", there, "--model", model(family), "--out", out)
    assert f"{plan.parameters:,} trainable parameters, as planned" in result.stderr
    assert json.loads((out / "adapter_config.json").read_text())["peft_type"] == "LAYERLENS"
    auto = {"llama": transformers.AutoModelForCausalLM, "bert": transformers.AutoModelForSequenceClassification}
    options = {} if family == "llama" else {"num_labels": 3}
    loaded = load(auto[family].from_pretrained(model(family), **options), out, trainable=True)
    trained = [p.numel() for n, p in loaded.named_parameters() if p.requires_grad and "modules_to_save" not in n]
    assert sum(trained) == plan.parameters
