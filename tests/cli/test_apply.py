"""``layerlens apply``: an adapter that PEFT alone loads, with the planned ranks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import peft
import pytest
import torch
import transformers
from peft.tuners.lora import LoraLayer

from layerlens_core.adaptation.attached import trainable_parameters
from layerlens_core.adaptation.load import load
from layerlens_core.allocation.allocate import allocate
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

Model = Callable[[str], str]


def _base(name: str, source: str) -> transformers.PreTrainedModel:
    if name == "llama":
        return transformers.AutoModelForCausalLM.from_pretrained(source)
    return transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # plain PEFT reads it
@pytest.mark.parametrize(("name", "family"), [("llama", "llama"), ("bert-classifier", "bert")])
def test_peft_loads_the_adapter_with_the_planned_ranks(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path, name: str, family: str
) -> None:
    plan, out = Plan.load(finished_runs[name]), tmp_path / "adapter"
    result = layerlens.ok("apply", finished_runs[name], "--model", model(family), "--out", out)
    assert f"{plan.parameters:,} trainable parameters, as planned" in result.stderr
    assert result.stdout == f"{out}\n"

    loaded = peft.PeftModel.from_pretrained(_base(name, model(family)), out, is_trainable=True)
    base = loaded.get_base_model()
    layers = {module: layer for module, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    assert {module: layer.r["default"] for module, layer in layers.items()} == plan.sizes("lora")
    assert {layer.scaling["default"] for layer in layers.values()} == {float(plan.scale)}
    sizes = {n: p.numel() for n, p in loaded.named_parameters() if p.requires_grad}
    assert sum(size for n, size in sizes.items() if "modules_to_save" not in n) == plan.parameters
    assert sum(size for n, size in sizes.items() if "modules_to_save" in n) == plan.head_parameters
    for layer in layers.values():
        assert torch.count_nonzero(layer.lora_B["default"].weight) == 0
        assert torch.count_nonzero(layer.lora_A["default"].weight) > 0


def test_at_one_rank_servers_find_no_pattern(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    plan, out = Plan.load(finished_runs["llama"]), tmp_path / "adapter"
    ranks = plan.sizes("lora")
    assert len(set(ranks.values())) > 1
    result = layerlens.ok("apply", finished_runs["llama"], "--model", model("llama"), "--out", out, "--one-rank")
    largest = max(ranks.values())
    assert f"written at one rank, {largest}, padded with zeros" in result.stderr
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (largest, largest * plan.scale)
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert sorted(config["target_modules"]) == sorted(ranks)
    loaded = load(_base("llama", model("llama")), out, trainable=True)
    assert trainable_parameters(loaded) == (plan.parameters, 0)


def test_one_rank_is_refused_for_plans_of_other_methods(
    layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path
) -> None:
    there, out = run("llama"), tmp_path / "adapter"
    layerlens.ok("allocate", there, "--strategy", "threshold", "--methods", "prefix,adapter,lora")
    for command in (("apply", there), ("export", there, "--to", "peft")):
        message = layerlens.refused(*command, "--model", model("llama"), "--out", out, "--one-rank", out=out)
        assert "--one-rank is for plans of LoRA alone, but this one has " in message


def test_the_same_seed_gives_the_same_adapter(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(number)
        layerlens.ok("apply", finished_runs["llama"], "--model", model("llama"), "--out", out, "--seed", seed)
        weights.append((out / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_an_adapter_that_is_there_is_kept_without_overwrite(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "adapter"
    arguments = ("apply", finished_runs["llama"], "--model", model("llama"), "--out", out)
    layerlens.ok(*arguments)
    message = layerlens.refused(*arguments, out=out)
    assert message == f"Error: {out} already holds README.md and 2 more; use --overwrite or another --out\n"
    before = (out / "adapter_model.safetensors").read_bytes()
    layerlens.ok(*arguments, "--overwrite", "--seed", 1)
    assert (out / "adapter_model.safetensors").read_bytes() != before


def test_the_configuration_names_every_module_in_full(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    layerlens.ok("apply", finished_runs["llama"], "--model", model("llama"), "--out", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model("llama")
    for module in Plan.load(finished_runs["llama"]).sizes("lora"):
        assert re.fullmatch(config["target_modules"], module)


def test_a_profile_whose_classes_have_no_names_can_be_applied(
    layerlens: Any, run: Callable[..., Path], own_model: Callable[[str], Path], tmp_path: Path
) -> None:
    there, trained = run(), own_model("bert")
    _base("bert-classifier", str(trained)).save_pretrained(trained)
    profile = attrs.evolve(Profile.load(there), labels=())
    profile.save(tmp_path / "nameless")
    allocate(profile, budget="params=r=2").save(tmp_path / "nameless")
    layerlens.ok("apply", tmp_path / "nameless", "--model", trained, "--out", tmp_path / "adapter")


def test_the_model_is_the_one_that_was_profiled_unless_another_is_named(
    layerlens: Any, run: Callable[..., Path], own_model: Callable[[str], Path], data: Callable[[str], str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source, there = own_model("llama"), tmp_path / "run"
    monkeypatch.chdir(source.parent)
    layerlens.ok("plan", source.name, "--data", data("text"), "--metric", "fisher", "--samples", "4", "--out", there)
    layerlens.ok("allocate", there, "--budget", "params=r=1", "--out", tmp_path / "smaller")
    monkeypatch.chdir(there)  # from where the name that was typed leads nowhere
    layerlens.ok("apply", tmp_path / "smaller", "--out", tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(source.resolve())
    layerlens.ok("export", tmp_path / "smaller", "--to", "axolotl", "--out", tmp_path / "exported")
    source.rename(source.with_name("moved"))
    message = layerlens.refused("apply", there, "--out", tmp_path / "other")
    assert f"was profiled on {source.resolve()}, which is not there; give --model" in message
    (there / "trace.jsonl").unlink()
    assert "does not tell which model it was profiled on; give --model" in layerlens.refused(
        "apply", there, "--out", tmp_path / "other"
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # plain PEFT reads it
@pytest.mark.parametrize(
    ("name", "family", "task_type", "pipeline"),
    [
        ("llama", "llama", "CAUSAL_LM", "text-generation"),
        ("bert-classifier", "bert", None, "text-classification"),
    ],
)
def test_the_directory_has_a_card_and_a_task(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path,
    name: str, family: str, task_type: str | None, pipeline: str,
) -> None:  # fmt: skip
    import yaml

    plan, out = Plan.load(finished_runs[name]), tmp_path / "adapter"
    layerlens.ok("apply", finished_runs[name], "--model", model(family), "--out", out)
    assert json.loads((out / "adapter_config.json").read_text())["task_type"] == task_type
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "More Information Needed" not in card
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "peft", "pipeline_tag": pipeline, "tags": ["layerlens", "peft"],
    }  # fmt: skip
    assert f"{plan.parameters:,} trainable parameters" in text
    for decision in plan.decisions:
        assert f"| `{decision.unit}` | {decision.method} |" in text
    wanted = "PeftModelForCausalLM" if task_type else "PeftModel"
    loaded = peft.PeftModel.from_pretrained(_base(name, model(family)), out, is_trainable=True)
    assert type(loaded).__name__ == wanted
