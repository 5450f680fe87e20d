"""From a plan below rank 1 to an adapter of cores that goes on training, and what is refused on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import layerlens_core as ll
from layerlens_core.adaptation.cores.subspaces import cores_of
from layerlens_core.values.plan import Plan

Data = Callable[[str], str]
Model = Callable[[str], str]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.mark.parametrize("found_by", [("--directions",), ("--warm-up", "3", "--warm-up-rank", "8", "--batch", "4")])
def test_a_budget_below_rank_one_becomes_an_adapter_of_cores(
    layerlens: Any, model: Model, data: Data, tmp_path: Path, found_by: tuple[str, ...]
) -> None:
    run, out = tmp_path / "run", tmp_path / "adapter"
    arguments = (model("llama"), "--data", data("text"), "--budget", "params=r=0.25", "--no-margins", *found_by)
    layerlens.ok("plan", *arguments, "--out", run)
    plan = Plan.load(run)
    assert {decision.method for decision in plan.decisions} == {"core"}
    assert plan.limits.params is not None
    assert plan.parameters <= plan.limits.params
    told = " ".join(layerlens.ok("explain", run, plan.decisions[0].unit).stdout.split())
    assert "where lora has" in told
    result = layerlens.ok("apply", run, "--model", model("llama"), "--out", out)
    assert "trains the cores; what PEFT loads is the LoRA that they are" in result.stderr
    assert {"adapter_config.json", "adapter_model.safetensors", "core.safetensors"} <= {p.name for p in out.iterdir()}
    trained = ll.load(base(model), out, trainable=True)
    assert sum(core.numel() for core in cores_of(trained).values()) == plan.parameters
    with torch.no_grad():
        for core in cores_of(trained).values():
            core.normal_()
    trained.save_pretrained(tmp_path / "lora")
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    plain = peft.PeftModel.from_pretrained(base(model), tmp_path / "lora").eval()
    torch.testing.assert_close(plain(**inputs).logits, trained.eval()(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["peft_type"] == "LORA"


def base(model: Model) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(model("llama"))


def test_what_cannot_be_is_refused_in_one_line(layerlens: Any, model: Model, data: Data, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = (model("llama"), "--data", data("text"), "--no-margins", "--out", run)
    layerlens.ok("plan", *arguments, "--budget", "params=r=2")
    refused = layerlens.refused("allocate", run, "--budget", "params=r=0.25", "--methods", "core")
    assert "profile with --warm-up 10% (better) or --directions" in refused
    layerlens.ok("plan", *arguments, "--budget", "params=r=0.25", "--directions", "--overwrite")
    refused = layerlens.refused("export", run, "--model", model("llama"), "--to", "trl", "--out", tmp_path / "trl")
    assert "trains LoRA alone, but this plan gives core to" in refused
    (run / "directions.safetensors").unlink()
    refused = layerlens.refused("apply", run, "--model", model("llama"), "--out", tmp_path / "adapter")
    assert "does not exist, but it holds the subspaces that the cores lie in" in refused
    assert not (tmp_path / "adapter").exists()
