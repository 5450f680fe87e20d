"""``layerlens export``: what it writes for each trainer, what it refuses, and exporters of other people."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from safetensors.torch import load_file

import layerlens_core as ll
from layerlens_core.plugin import registry
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.comparison import Schedule
from layerlens_core.values.plan import Plan
from layerlens_core.values.recipe import Recipe

Model = Callable[[str], str]

ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
#: Exporter -> the file with its keys.
KEYS = {"axolotl": "axolotl.yaml", "llama-factory": "llama_factory.yaml"}
NEAR = {"trl": "trt", "axolotl": "axolot", "llama-factory": "llamafactory", "peft": "pefft"}


def _names(path: Path) -> set[str]:
    return {each.name for each in path.iterdir()}


@pytest.fixture
def uniform(layerlens: Any, run: Callable[..., Path]) -> Path:
    """A run in which two layers have LoRA of rank 1, and the others nothing."""
    there = run("llama")
    layerlens.ok("allocate", there, "--budget", "params=496", "--quantiles", "0.5")
    assert set(Plan.load(there).sizes("lora").values()) == {1}
    assert {decision.method for decision in Plan.load(there).decisions} == {"lora", "none"}
    return there


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that a test may add to."""
    own = Registry.discover()
    monkeypatch.setattr(registry, "default", lambda: own)
    return own


def test_peft_is_what_apply_writes(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    for name, family in (("llama", "llama"), ("bert-classifier", "bert")):
        out, applied = tmp_path / name, tmp_path / f"{name}-applied"
        arguments = (finished_runs[name], "--model", model(family), "--seed", 3, "--out")
        result = layerlens.ok("export", *arguments, out, "--to", "peft")
        layerlens.ok("apply", *arguments, applied)
        assert _names(out) == ADAPTER
        assert all((out / file).read_bytes() == (applied / file).read_bytes() for file in ADAPTER)
        assert result.stdout.split() == [str(out / file) for file in sorted(ADAPTER)]
        assert "trainable parameters, as planned" in result.stderr
        assert "pure LoRA: PeftModel.from_pretrained loads it" in result.stderr


@pytest.mark.parametrize("to", KEYS)
def test_keys_come_with_the_adapter_that_they_name(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path, to: str
) -> None:
    out = tmp_path / "new" / "out"
    result = layerlens.ok("export", finished_runs["llama"], "--to", to, "--model", model("llama"), "--out", out)
    assert _names(out) == {*ADAPTER, KEYS[to]}
    assert result.stdout.split()[-1] == str(out / KEYS[to])
    text = (out / KEYS[to]).read_text()
    keys = yaml.safe_load(text)
    assert keys["lora_model_dir" if to == "axolotl" else "adapter_name_or_path"] == str(out)
    assert keys["base_model" if to == "axolotl" else "model_name_or_path"] == model("llama")
    digest = Plan.load(finished_runs["llama"]).digest
    assert f"# LayerLens plan {digest[:16]} for" in text


#: Exporter -> what it calls the rate's schedule, the batch and the epochs.
TRAINED_WITH = {
    "axolotl": ("lr_scheduler", "micro_batch_size", "num_epochs"),
    "llama-factory": ("lr_scheduler_type", "per_device_train_batch_size", "num_train_epochs"),
}


@pytest.mark.parametrize("to", TRAINED_WITH)
def test_what_a_comparison_found_is_among_the_keys(
    layerlens: Any, run: Callable[..., Path], model: Model, tmp_path: Path, to: str
) -> None:
    there = run("llama")
    plan = Plan.load(there)
    recipe = Recipe(
        plan=plan.digest, profile=plan.profile, comparison="0" * 64,
        setting="", rate=0.004, rates={}, groups={"lora": 0.004}, scale=2,
        schedule=Schedule(steps=30, batch=8, warmup=3),
        epochs=2.5, recommended={}, budget="", sentence="",
    )  # fmt: skip
    recipe.save(there)
    arguments = ("export", there, "--to", to, "--model", model("llama"), "--out")
    result = layerlens.ok(*arguments, tmp_path / "one")
    assert "train it with a learning rate of 0.004, as compare found: AdamW" in result.stderr
    assert "3 steps of warm-up, 2.5 epochs in batches of 8" in result.stderr
    keys = yaml.safe_load((tmp_path / "one" / KEYS[to]).read_text())
    schedule, batch, epochs = TRAINED_WITH[to]
    assert (keys["learning_rate"], keys[schedule], keys[batch], keys[epochs]) == (0.004, "linear", 8, 2.5)
    assert (keys["warmup_steps"], keys["max_grad_norm"]) == (3, 1.0)
    for name in ("plan", "profile"):
        attrs.evolve(recipe, **{name: "0" * 64}).save(there)
        message = layerlens.refused(*arguments, tmp_path / "other", out=tmp_path / "other")
        assert f"{there / 'recipe.json'} is not the recipe of {there / 'plan.json'}; remove it, and compare" in message


@pytest.mark.slow
def test_trl_trains_what_was_exported_for_its_command_line(
    layerlens: Any,
    uniform: Path,
    model: Model,
    tmp_path: Path,
    write: Callable[[str, Sequence[Mapping[str, Any]]], str],
) -> None:
    """With TRL's own command, as a user would."""
    out, trained = tmp_path / "out", tmp_path / "trained"
    result = layerlens.ok("export", uniform, "--to", "trl", "--model", model("llama"), "--out", out)
    assert _names(out) == {"trl.yaml"}
    assert f"train with: trl sft --config {out / 'trl.yaml'}" in result.stderr

    (tmp_path / "data").mkdir()
    write("data/train.jsonl", [{"text": "the red cat sees a dog"}] * 16)
    command = [Path(sys.executable).parent / "trl", "sft", "--config", out / "trl.yaml", "--use_cpu"]
    options = ["--dataset_name", tmp_path / "data", "--output_dir", trained, "--max_steps", "2", "--report_to", "none"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = Plan.load(uniform)
    shapes = {key: tuple(tensor.shape) for key, tensor in load_file(trained / "adapter_model.safetensors").items()}
    ends = ("base_model.model.", ".lora_A.weight")
    found = {k.removeprefix(ends[0]).removesuffix(ends[1]): shape[0] for k, shape in shapes.items() if "lora_A" in k}
    assert found == plan.sizes("lora")
    config = json.loads((trained / "adapter_config.json").read_text())
    assert config["lora_alpha"] / config["r"] == plan.scale


@pytest.mark.parametrize("to", ["trl", *KEYS])
def test_what_a_trainer_cannot_express_is_refused_before_the_model_is_loaded(
    layerlens: Any, run: Callable[..., Path], tmp_path: Path, to: str
) -> None:
    there, out = run("llama"), tmp_path / "new" / "out"
    layerlens.ok("allocate", there, "--strategy", "threshold", "--methods", "prefix,adapter,lora")
    assert {decision.method for decision in Plan.load(there).decisions} - {"lora", "none"}
    message = layerlens.refused(
        "export", there, "--to", to, "--model", "somebody/nothing", "--out", out, out=tmp_path / "new"
    )
    assert "trains LoRA alone, but this plan gives " in message
    assert "to model.layers." in message


def test_a_classifier_is_refused_where_only_language_models_are_trained(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for to in ("trl", *KEYS):
        arguments = ("export", finished_runs["bert-classifier"], "--to", to, "--model", "somebody/nothing")
        message = layerlens.refused(*arguments, "--out", out, out=out)
        assert "this plan is for sequence-classification with the head classifier; export it --to peft" in message


def test_several_ranks_are_refused_for_trl(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("export", finished_runs["llama"], "--to", "trl", "--model", model("llama"))
    assert "no rank pattern, but this plan has ranks" in layerlens.refused(*arguments, "--out", out, out=out)


def test_another_model_is_refused_and_nothing_is_written(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    for to in KEYS:
        arguments = ("export", finished_runs["llama"], "--to", to, "--model", model("bert"))
        message = layerlens.refused(*arguments, "--out", out, out=tmp_path / "new")
        assert "the plan is for another model" in message or "cannot be loaded for causal-lm" in message


@pytest.mark.parametrize("to", ["peft", "axolotl"])
def test_files_that_are_there_are_kept_without_overwrite(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path, to: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("precious")
    arguments = ("export", finished_runs["llama"], "--to", to, "--model", model("llama"), "--out", out)
    message = layerlens.refused(*arguments, out=out)
    assert message == f"Error: {out} already holds notes.txt; use --overwrite or another --out\n"
    layerlens.ok(*arguments, "--overwrite")
    assert (out / "notes.txt").read_text() == "precious"
    first = (out / "adapter_model.safetensors").read_bytes()
    assert "already holds README.md and " in layerlens.refused(*arguments, out=out)
    layerlens.ok(*arguments, "--overwrite", "--seed", 1)
    assert (out / "adapter_model.safetensors").read_bytes() != first


def test_an_adapter_that_cannot_be_written_whole_is_not_written(
    layerlens: Any, finished_runs: dict[str, Path], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: object, path: str) -> None:
        (Path(path) / "adapter_config.json").write_text("{}")
        raise OSError("no space left")

    monkeypatch.setattr("peft.PeftModel.save_pretrained", half)
    for command in (("export", "--to", "peft"), ("apply",)):
        arguments = (command[0], finished_runs["llama"], *command[1:], "--model", model("llama"))
        result = layerlens(*arguments, "--out", tmp_path / "new" / "out")
        assert result.exit_code != 0
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("to", NEAR)
def test_an_unknown_exporter_is_answered_with_the_nearest(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, to: str
) -> None:
    out = tmp_path / "out"
    arguments = ("export", finished_runs["llama"], "--to", NEAR[to], "--model", "somebody/nothing")
    message = layerlens.refused(*arguments, "--out", out, out=out)
    assert (
        f"no exporter is named {NEAR[to]!r}; there are: {', '.join(Registry.discover().names('exporter'))}." in message
    )
    assert f"Did you mean {to!r}?" in message


def test_somebodys_exporter_gets_the_plan_and_writes_what_it_likes(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, own_registry: Registry
) -> None:
    def export(request: Any) -> tuple[Path, ...]:
        request.out.mkdir()
        (request.out / "ranks.txt").write_text(str(sorted(request.plan.sizes("lora").values())))
        request.say(f"{request.model}, {request.profile.task}")
        return (request.out / "ranks.txt",)

    own_registry.register(ll.ExporterProvider(name="ranks", summary="ranks alone", load=lambda: export))
    out = tmp_path / "out"
    arguments = ("export", finished_runs["llama"], "--to", "ranks", "--model", "somebody/model", "--out", out)
    result = layerlens.ok(*arguments)
    assert result.stdout == f"{out / 'ranks.txt'}\n"
    assert result.stderr == "somebody/model, causal-lm\n"
    assert json.loads((out / "ranks.txt").read_text()) == sorted(
        Plan.load(finished_runs["llama"]).sizes("lora").values()
    )
    assert "ranks alone" in layerlens.ok("plugins").stdout


@pytest.mark.parametrize("returned", [None, "out/file", [Path(__file__)], (str(__file__),), (Path("/nowhere/at/all"),)])
def test_an_exporter_that_does_not_say_what_it_wrote_is_named(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, own_registry: Registry, returned: object
) -> None:
    own_registry.register(ll.ExporterProvider(name="odd", summary="", load=lambda: lambda request: returned))
    arguments = ("export", finished_runs["llama"], "--to", "odd", "--model", "somebody/model")
    message = layerlens.refused(*arguments, "--out", tmp_path / "out", out=tmp_path / "out")
    assert (
        "exporter 'odd' of plugin odd (in process) must return a tuple of the paths that it wrote, but returned"
        in message
    )


def test_an_exporter_that_fails_to_load_is_named_with_its_plugin(
    layerlens: Any, finished_runs: dict[str, Path], tmp_path: Path, own_registry: Registry
) -> None:
    def load() -> Any:
        raise ImportError("no licence")

    own_registry.register(ll.ExporterProvider(name="late", summary="", load=load))
    arguments = ("export", finished_runs["llama"], "--to", "late", "--model", "somebody/model")
    message = layerlens.refused(*arguments, "--out", tmp_path / "out", out=tmp_path / "out")
    assert "exporter 'late' of plugin late (in process) failed to load: ImportError: no licence" in message
