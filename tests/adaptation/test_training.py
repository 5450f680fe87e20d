"""Mixed plans train with the Hugging Face Trainer as planned, and go on after saving, loading and resuming."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from attrs import frozen
from safetensors.torch import load_file, save_file

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, side_modules, trainable_parameters
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.plan import Plan
from zoo.plans import plan_with
from zoo.probing import logits, perturb

#: Families, and what makes four layers of them.
FAMILIES = {
    "llama": {"num_hidden_layers": 4},
    "qwen3": {"num_hidden_layers": 4},
    "bert-classifier": {"num_hidden_layers": 4},
    "gpt2": {"n_layer": 4},
    "t5": {},
    "vit": {"num_hidden_layers": 4},
}
STEPS = 50
HALF = STEPS // 2

#: Loads base models and adapters in a process that has not seen the plan.
LOADER = """
import json, sys
from pathlib import Path
import torch, transformers
from safetensors.torch import load_file, save_file
from layerlens_core.adaptation.load import load

for run in map(Path, sys.argv[1:]):
    architecture = json.loads((run / "base" / "config.json").read_text())["architectures"][0]
    model = load(getattr(transformers, architecture).from_pretrained(run / "base"), run / "adapter").eval()
    with torch.no_grad():
        save_file({"logits": model(**load_file(run / "inputs.safetensors")).logits}, run / "logits.safetensors")
"""


@frozen(kw_only=True)
class Trained:
    """A family's model after training, and what it was before."""

    plan: Plan
    model: torch.nn.Module
    losses: list[float]
    frozen: dict[str, torch.Tensor]
    start: dict[str, torch.Tensor]
    checkpoint: Path


def four_layers(family, name):
    return family.with_config(**FAMILIES[name])


def mixed_plan(model):
    """LoRA at four ranks on the first and the last layer, an adapter and a prefix between them."""
    layers = inspect(model).layers
    ranks = {m.name: 1 + at % 4 for layer in (layers[0], layers[-1]) for at, m in enumerate(layer.modules)}
    plan = plan_with(
        model,
        {
            layers[0].name: ("lora", ranks),
            layers[1].name: ("adapter", 5),
            layers[2].name: ("prefix", 6),
            layers[3].name: ("lora", ranks),
        },
    )
    assert [decision.method for decision in plan.decisions] == ["lora", "adapter", "prefix", "lora"]
    assert set(plan.sizes("lora").values()) == {1, 2, 3, 4}
    return plan


def samples(family):
    """Eight samples that repeat, so that there is something to learn."""
    batch = family.inputs(labels=True)
    rows = [{key: value[at] for key, value in batch.items()} for at in range(2)]
    return [rows[at % 2] for at in range(8)]


def train(model, family, folder, *, resume=None):
    """The losses of `STEPS` steps with the Hugging Face Trainer, or of those after a checkpoint."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=HALF,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        remove_unused_columns=False,
        label_names=["labels"],
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=samples(family))
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def memory():
    """What was trained, once a family."""
    return {}


@pytest.fixture(params=FAMILIES)
def trained(request, runs, memory):
    name = request.param
    family = four_layers(zoo.find(name), name)
    if name not in memory:
        model = family.build()
        model.save_pretrained(runs / name / "base")
        plan = mixed_plan(model)
        torch.manual_seed(11)
        frozen = {key: value.detach().clone() for key, value in model.named_parameters()}
        originals = dict(model.named_parameters())
        wrapped = apply(model, plan)
        start = {n: p.detach().clone() for n, p in wrapped.named_parameters() if p.requires_grad}
        losses = train(wrapped, family, runs / name / "trainer")
        for key, parameter in originals.items():
            assert torch.equal(parameter, frozen[key]), key
        memory[name] = Trained(
            plan=plan,
            model=wrapped.eval(),
            losses=losses,
            frozen=frozen,
            start=start,
            checkpoint=runs / name / "trainer" / f"checkpoint-{HALF}",
        )
    return name, family, memory[name]


def test_the_loss_falls(trained):
    _, _, run = trained
    assert len(run.losses) == STEPS
    assert sum(run.losses[-5:]) / 5 < sum(run.losses[:5]) / 5 - 0.1


def test_trainable_parameters_are_the_planned_ones_in_total_and_for_each_module(trained):
    _, _, run = trained
    assert trainable_parameters(run.model) == (run.plan.parameters, run.plan.head_parameters)
    layers = lora_layers(run.model) | side_modules(run.model)
    planned = {n: s for d in run.plan.decisions for n, s in d.sizes.items() if s}
    assert layers.keys() == planned.keys()
    for name, size in planned.items():
        trains = sum(p.numel() for p in layers[name].parameters() if p.requires_grad)
        shape = run.plan.shapes[name]
        if "query_heads" in shape:
            expected = size * shape["key_value_heads"] * (shape["key_dim"] + shape["value_dim"]) + shape["query_heads"]
        elif name in side_modules(run.model):
            expected = 2 * size * shape["out_features"] + shape["out_features"] + size
        else:
            expected = size * (shape["in_features"] + shape["out_features"])
        assert trains == expected, name


def test_everything_planned_moved_and_nothing_else(trained):
    # The fixture compares the model's own weights with what they were, bit for bit.
    _, _, run = trained
    now = dict(run.model.named_parameters())
    assert [name for name, before in run.start.items() if torch.equal(now[name], before)] == []


def test_a_resumed_training_goes_on_with_the_same_losses(trained, tmp_path):
    _, family, run = trained
    model = family.build()
    wrapped = apply(model, mixed_plan(model))
    losses = train(wrapped, family, tmp_path, resume=run.checkpoint)
    assert losses == run.losses
    state, expected = wrapped.state_dict(), run.model.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_fresh_process_computes_the_same_to_the_last_bit(tmp_path):
    expected = {}
    for name in FAMILIES:
        family = four_layers(zoo.find(name), name)
        model = family.build()
        model.save_pretrained(tmp_path / name / "base")
        wrapped = apply(model, mixed_plan(model)).eval()
        before = logits(wrapped, family)
        perturb(wrapped, seed=1)
        expected[name] = logits(wrapped, family)
        assert not torch.allclose(expected[name], before)
        wrapped.save_pretrained(tmp_path / name / "adapter")
        save_file(family.inputs(), tmp_path / name / "inputs.safetensors")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", LOADER, *(str(tmp_path / name) for name in FAMILIES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in FAMILIES:
        assert torch.equal(load_file(tmp_path / name / "logits.safetensors")["logits"], expected[name]), name


def test_disabled_and_unloaded_it_is_the_base_model_to_the_last_bit(trained):
    _, family, run = trained
    base = family.build()
    with torch.no_grad():
        expected = base(**family.inputs()).logits
        tuned = run.model(**family.inputs()).logits
        assert not torch.allclose(tuned, expected)
        with run.model.disable_adapter():
            assert torch.equal(run.model(**family.inputs()).logits, expected)
        assert torch.equal(run.model(**family.inputs()).logits, tuned)
