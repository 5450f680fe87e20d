"""What is exported from a pure LoRA plan builds the planned model, also where LayerLens is not installed."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import attrs
import peft
import pytest
import torch
import trl
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import zoo
from layerlens_builtin.exporters.axolotl import export as export_axolotl
from layerlens_builtin.exporters.llama_factory import export as export_llama_factory
from layerlens_builtin.exporters.peft import export as export_peft
from layerlens_builtin.exporters.trl import export as export_trl
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers
from layerlens_core.adaptation.config import lora_config
from layerlens_core.errors import PlanError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin.export import ExportRequest
from layerlens_core.values.profile import Profile
from zoo.plans import mixed_ranks, plan_of
from zoo.probing import perturb

pytestmark = [
    # Of PEFT, where a test calls it itself.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    # Of TRL, which sets an option of transformers by its old name.
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning"),
]

FAMILIES = ("llama", "bert-classifier", "roberta-classifier", "distilbert-classifier", "gpt2", "t5", "vit")

#: Loads base models and adapters as a program would on a machine that has never seen LayerLens.
LOADER = """
import importlib.metadata, importlib.util, json, sys

sys.path.append(sys.argv[1])
for name in ("layerlens_core", "layerlens_builtin", "layerlens_native"):
    assert importlib.util.find_spec(name) is None, name
try:
    raise SystemExit(importlib.metadata.version("layerlens-core"))
except importlib.metadata.PackageNotFoundError:
    pass

import torch, transformers
from pathlib import Path
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

for run in map(Path, sys.argv[2:]):
    architecture = json.loads((run / "base" / "config.json").read_text())["architectures"][0]
    base = getattr(transformers, architecture).from_pretrained(run / "base")
    model = PeftModel.from_pretrained(base, run / "adapter", is_trainable=True).eval()
    with torch.no_grad():
        save_file({"logits": model(**load_file(run / "inputs.safetensors")).logits}, run / "logits.safetensors")
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    made = {n: [m.r["default"], m.lora_alpha["default"], m.scaling["default"]] for n, m in layers.items()}
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    (run / "made.json").write_text(json.dumps({"layers": made, "trained": trained}))
"""


def request_for(model, plan, out, adapter):
    """A request to export; the profile is only there to be complete."""
    profile = Profile(inventory=inspect(model), task=plan.task, scores=(), statistics=(), data="", samples=1, loss=0.0)
    return ExportRequest(plan=plan, profile=profile, model="base", out=out, adapter=adapter, say=lambda line: None)


def causal(model, ranks):
    return attrs.evolve(plan_of(model, ranks), task="causal-lm")


def saved(wrapped, out):
    """What writes an adapter that is applied already."""

    def adapter():
        wrapped.save_pretrained(out)
        return tuple(sorted(out.iterdir()))

    return adapter


def made_of(wrapped):
    return {name: (layer.r["default"], layer.scaling["default"]) for name, layer in lora_layers(wrapped).items()}


@attrs.frozen
class Adapter:
    """A model with a plan of several ranks, and the request that writes it."""

    request: ExportRequest
    wrapped: torch.nn.Module


@pytest.fixture
def adapter(tmp_path):
    """What trainers on PEFT get: every module at its own rank."""
    model = zoo.build("llama")
    plan = causal(model, mixed_ranks(model))
    request = request_for(model, plan, tmp_path, None)
    wrapped = apply(model, plan, one_rank=False)
    return Adapter(attrs.evolve(request, adapter=saved(wrapped, tmp_path)), wrapped)


@pytest.fixture(scope="module")
def without_layerlens(tmp_path_factory):
    """A folder with every installed distribution but ours; `python -I -S` sees no other, nor any .pth file."""
    farm = tmp_path_factory.mktemp("site-packages")
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(place).iterdir():
            if "layerlens" not in path.name.lower() and path.suffix != ".pth":
                (farm / path.name).symlink_to(path)
    return farm


@pytest.fixture(scope="module")
def plain_peft(without_layerlens):
    """Load exported adapters in such an environment; every folder holds base, adapter and inputs."""

    def load(*folders):
        command = [sys.executable, "-I", "-S", "-c", LOADER, without_layerlens, *folders]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr

    return load


def test_plain_peft_loads_what_was_exported_with_the_same_logits_ranks_and_scales(plain_peft, tmp_path):
    expected = {}
    for name in FAMILIES:
        family, folder = zoo.find(name), tmp_path / name
        model = family.build()
        model.save_pretrained(folder / "base")
        save_file({key: value.contiguous() for key, value in family.inputs().items()}, folder / "inputs.safetensors")
        with torch.no_grad():
            base = model(**family.inputs()).logits
        plan = plan_of(model, mixed_ranks(model))
        said = []
        request = request_for(model, plan, folder / "adapter", None)
        wrapped = apply(model, plan, one_rank=False).eval()
        perturb(wrapped)
        written = export_peft(attrs.evolve(request, adapter=saved(wrapped, folder / "adapter"), say=said.append))
        assert {path.name for path in written} >= {"adapter_config.json", "adapter_model.safetensors"}
        assert said[0].startswith("pure LoRA: PeftModel.from_pretrained loads it")
        with torch.no_grad():
            logits = wrapped(**family.inputs()).logits
        assert not torch.allclose(logits, base, atol=1e-2)
        expected[folder] = plan, logits

    plain_peft(*expected)
    for folder, (plan, logits) in expected.items():
        assert torch.equal(load_file(folder / "logits.safetensors")["logits"], logits), folder.name
        made = json.loads((folder / "made.json").read_text())
        assert {name: rank for name, (rank, _, _) in made["layers"].items()} == plan.sizes("lora")
        assert {alpha / rank for rank, alpha, _ in made["layers"].values()} == {plan.scale}
        assert {scale for _, _, scale in made["layers"].values()} == {float(plan.scale)}
        heads = sum(size for name, size in made["trained"].items() if "modules_to_save" in name)
        assert (sum(made["trained"].values()) - heads, heads) == (plan.parameters, plan.head_parameters)


def test_the_environment_without_layerlens_is_one(without_layerlens):
    """The loader's own check would fail if the package could be imported: here it can."""
    command = [sys.executable, "-c", LOADER, without_layerlens]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "AssertionError: layerlens_core" in done.stderr


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("uniform", [False, True])
def test_the_plain_configuration_builds_what_apply_builds(name, uniform):
    family = zoo.find(name)
    ranks = mixed_ranks(family.build())
    plan = plan_of(family.build(), dict.fromkeys(ranks, 3) if uniform else ranks)
    config = lora_config(plan)
    assert config.r == max(plan.sizes("lora").values())
    assert bool(config.rank_pattern) == (not uniform)
    built, applied = get_peft_model(family.build(), config), apply(family.build(), plan)
    assert made_of(built) == made_of(applied) == {n: (r, float(plan.scale)) for n, r in plan.sizes("lora").items()}
    trained = [{n for n, p in model.named_parameters() if p.requires_grad} for model in (built, applied)]
    assert trained[0] == trained[1]


def test_a_model_with_stacked_experts_has_no_plain_configuration():
    model = zoo.build("mixtral")
    with pytest.raises(PlanError, match="MixtralForCausalLM has stacked experts"):
        lora_config(plan_of(model, mixed_ranks(model)))


def test_the_saved_configuration_is_the_plain_one(tmp_path):
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model))
    apply(model, plan, one_rank=False).save_pretrained(tmp_path)
    saved_config, config = LoraConfig.from_pretrained(tmp_path), lora_config(plan)
    for key in ("peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "lora_dropout"):
        assert getattr(saved_config, key) == getattr(config, key), key


def test_the_command_line_of_trl_builds_the_planned_model(tmp_path):
    """Eleven and one, so that a match by the end of a name would take more than was planned."""
    model = zoo.find("llama").with_config(num_hidden_layers=12).build()
    ranks = {f"model.layers.{layer}.{name}": 4 for layer in (1, 3) for name in ("self_attn.q_proj", "mlp.up_proj")}
    plan = causal(model, ranks)

    def never():
        raise AssertionError("keys alone were wanted")

    (path,) = export_trl(request_for(model, plan, tmp_path, never))
    parser = trl.TrlParser((trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig))
    # As `trl sft --config … --output_dir …` reads it; any key that it does not know is an error here.
    *_, arguments, _ = parser.parse_args_and_config(["--config", str(path), "--output_dir", str(tmp_path), "--use_cpu"])
    config = trl.get_peft_config(arguments)
    assert arguments.model_name_or_path == "base"
    assert made_of(get_peft_model(model, config)) == dict.fromkeys(ranks, (4, 2.0))


def test_the_keys_for_axolotl_say_what_the_adapter_says(adapter, tmp_path):
    """It warns where they differ, and builds LoRA from the keys alone for preference tuning."""
    *_, path = export_axolotl(adapter.request)
    keys = yaml.safe_load(path.read_text())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert keys["lora_model_dir"] == str(tmp_path)
    assert keys["lora_rank_pattern"] == config["rank_pattern"] != {}
    assert keys["lora_alpha_pattern"] == config["alpha_pattern"]
    assert keys["lora_target_modules"] == config["target_modules"]
    # As `_build_peft_lora_config` of axolotl 0.19 does.
    config = LoraConfig(
        r=keys["lora_r"],
        lora_alpha=keys["lora_alpha"],
        lora_dropout=keys["lora_dropout"],
        target_modules=keys["lora_target_modules"],
        rank_pattern=keys["lora_rank_pattern"],
        alpha_pattern=keys["lora_alpha_pattern"],
        bias="none",
        task_type="CAUSAL_LM",
    )
    assert made_of(get_peft_model(zoo.build("llama"), config)) == made_of(adapter.wrapped)


def test_the_keys_for_llama_factory_name_an_adapter_that_goes_on_training(adapter, tmp_path):
    *_, path = export_llama_factory(adapter.request)
    keys = yaml.safe_load(path.read_text())
    # As `_setup_lora_tuning` of LLaMA-Factory 0.9.5 does with one adapter and without create_new_adapter.
    (named,) = re.split(r"\s*,\s*", keys["adapter_name_or_path"])
    assert not keys["create_new_adapter"]
    loaded = peft.PeftModel.from_pretrained(zoo.build("llama"), named, is_trainable=True)
    assert made_of(loaded) == made_of(adapter.wrapped)
    assert sum(p.numel() for p in loaded.parameters() if p.requires_grad) == adapter.request.plan.parameters
