"""Cores train with the Hugging Face Trainer, resume, and load where LayerLens is not installed."""

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from adaptation.applied import PLAIN_LOADER
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.cores.subspaces import cores_of
from layerlens_core.inspection.inspect import inspect
from zoo.probing import logits, perturb
from zoo.subspaces import cores_of_size

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]
FAMILIES = ("llama", "bert-classifier", "gpt2", "t5")
STEPS = 12


def planned(model, run):
    """Cores of several sizes, and a layer without any."""
    layers = inspect(model).layers
    first = {module.name: 2 + at % 3 for at, module in enumerate(layers[0].modules)}
    return cores_of_size(model, run, {layers[0].name: ("core", first), layers[-1].name: ("core", 5)})


def train(model, family, folder, resume=None):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=2, learning_rate=2e-2, logging_steps=1,
        save_steps=STEPS // 2, report_to=[], use_cpu=True, disable_tqdm=True, seed=3, remove_unused_columns=False,
        label_names=["labels"],
    )  # fmt: skip
    batch = family.inputs(labels=True)
    rows = [{key: value[at] for key, value in batch.items()} for at in range(2)]
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=[rows[at % 2] for at in range(8)])
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_falls_nothing_frozen_moves_and_a_resumed_run_has_the_same_losses(name, tmp_path):
    family = zoo.find(name)
    model = family.build()
    plan = planned(model, tmp_path)
    torch.manual_seed(11)
    wrapped = apply(model, plan, directions=tmp_path)
    frozen = still(wrapped)
    losses = train(wrapped, family, tmp_path / "trainer")
    assert sum(losses[-3:]) < sum(losses[:3])
    after = still(wrapped)
    assert all(torch.equal(after[key], frozen[key]) for key in frozen)
    assert all(core.any() for core in cores_of(wrapped).values())
    torch.manual_seed(11)  # of a head that is new
    resumed = apply(family.build(), plan, directions=tmp_path)
    again = train(resumed, family, tmp_path / "again", resume=tmp_path / "trainer" / f"checkpoint-{STEPS // 2}")
    # R comes back as Uᵀ·(U·R), which is R to rounding.
    assert again == pytest.approx(losses, rel=1e-4)
    for key, core in cores_of(wrapped).items():
        torch.testing.assert_close(cores_of(resumed)[key], core, rtol=1e-3, atol=1e-4)


def still(wrapped):
    own = [*wrapped.named_parameters(), *wrapped.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in own if not tensor.requires_grad}


def test_a_process_without_layerlens_computes_the_same(tmp_path):
    expected = {}
    for name in FAMILIES:
        family, run = zoo.find(name), tmp_path / name
        model = family.build()
        model.save_pretrained(run / "base")
        wrapped = apply(model, planned(model, run / "run"), directions=run / "run").eval()
        perturb(wrapped)
        expected[name] = logits(wrapped, family)
        wrapped.save_pretrained(run / "adapter")
        save_file({key: value.contiguous() for key, value in family.inputs().items()}, run / "inputs.safetensors")
        said = json.loads((run / "adapter" / "adapter_config.json").read_text())
        assert (said["peft_type"], said["lora_alpha"]) == ("LORA", 10)
    runs = [str(tmp_path / name) for name in FAMILIES]
    subprocess.run([sys.executable, "-c", PLAIN_LOADER, *runs], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    for name in FAMILIES:
        found = load_file(tmp_path / name / "logits.safetensors")["logits"]
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-5)


def test_in_sixteen_bits_cores_are_held_and_trained_in_32(tmp_path):
    family = zoo.find("llama")
    model = family.build().to(torch.bfloat16)
    before = logits(model, family)
    wrapped = apply(model, planned(model, tmp_path), directions=tmp_path).eval()
    assert torch.equal(logits(wrapped, family), before)
    for name, tensor in [*wrapped.named_parameters(), *wrapped.named_buffers()]:
        if "lora_" in name:
            assert tensor.dtype == torch.float32, name
    wrapped(**family.inputs(labels=True)).loss.backward()
    assert all(core.grad.any() for core in cores_of(wrapped).values())
