"""Every parameter that trains is in one group, at the rate of its method."""

import json

import attrs
import pytest
import torch
import transformers

import layerlens_core as ll
import zoo
from layerlens_core.adaptation.cores.subspaces import cores_of
from layerlens_core.errors import ModelError, PlanError
from layerlens_core.files.run import RECIPE
from layerlens_core.values.comparison import Schedule
from layerlens_core.values.recipe import Recipe
from zoo.plans import plan_with
from zoo.subspaces import cores_of_size

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MIXED = {
    "bert.encoder.layer.0": ("core", 3),
    "bert.encoder.layer.1": ("lora", 2),
    "bert.encoder.layer.2": ("adapter", 4),
}


@pytest.fixture
def family():
    return zoo.find("bert-classifier")


@pytest.fixture
def planned(family, tmp_path):
    model = family.with_config(num_hidden_layers=3).build()
    return model, cores_of_size(model, tmp_path, MIXED)


def test_what_trains_is_in_exactly_one_group(planned, tmp_path):
    model, plan = planned
    wrapped = ll.apply(model, plan, directions=tmp_path)
    groups = ll.parameter_groups(wrapped, 1e-3)
    assert {group["name"]: group["lr"] for group in groups} == {
        "adapter": 1e-3, "core": pytest.approx(4e-3), "lora": 1e-3, "head": 1e-3,
    }  # fmt: skip
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in wrapped.parameters() if p.requires_grad}
    by_name = {group["name"]: sum(p.numel() for p in group["params"]) for group in groups}
    for method in ("adapter", "core", "lora"):
        assert by_name[method] == sum(d.parameters for d in plan.decisions if d.method == method)
    assert by_name["head"] == plan.head_parameters


def test_rates_of_the_runs_comparison_go_before_others(planned, tmp_path):
    model, plan = planned
    plan.save(tmp_path)
    with pytest.raises(PlanError, match="has no recipe for its plan; compare it, or give rate="):
        ll.parameter_groups(ll.apply(model, plan, directions=tmp_path), run=tmp_path)
    recipe = Recipe(
        plan=plan.digest, profile=plan.profile, comparison="0" * 64,
        setting="s", rate=2e-3, rates={}, groups={"core": 0.03, "lora": 0.004}, scale=2.0,
        schedule=Schedule(steps=9, batch=3), epochs=3.0, recommended={}, budget="", sentence="",
    )  # fmt: skip
    recipe.save(tmp_path)
    wrapped = ll.apply(zoo.find("bert-classifier").with_config(num_hidden_layers=3).build(), plan, directions=tmp_path)
    rates = {group["name"]: group["lr"] for group in ll.parameter_groups(wrapped, run=tmp_path)}
    assert rates == {"adapter": 0.004, "core": 0.03, "lora": 0.004, "head": 0.004}
    assert "by method: core 0.03, lora 0.004" in recipe.advice
    said = json.loads((tmp_path / RECIPE).read_text())
    assert "by method" not in attrs.evolve(recipe, groups={"lora": 0.004}).advice
    assert said


def test_the_trainer_takes_them(family, tmp_path):
    model = family.build()
    plan = cores_of_size(model, tmp_path, {"bert.encoder.layer.0": ("core", 3), "bert.encoder.layer.1": ("lora", 2)})
    wrapped = ll.apply(model, plan, directions=tmp_path)
    batch = family.inputs(labels=True)
    rows = [{key: value[at] for key, value in batch.items()} for at in range(2)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", remove_unused_columns=False, label_names=["labels"],
    )  # fmt: skip
    optimizer = torch.optim.AdamW(ll.parameter_groups(wrapped, 1e-2), weight_decay=0)
    trainer = transformers.Trainer(model=wrapped, args=arguments, train_dataset=rows, optimizers=(optimizer, None))
    trainer.train()
    assert all(core.any() for core in cores_of(wrapped).values())
    peaks = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert peaks == {"core": pytest.approx(4e-2), "lora": 1e-2, "head": 1e-2}


def test_nothing_to_train_and_no_rate_are_refused(family, tmp_path):
    model = family.build()
    wrapped = ll.apply(model, plan_with(model, {"bert.encoder.layer.0": ("lora", 2)}))
    with pytest.raises(PlanError, match=r"needs a learning rate$"):
        ll.parameter_groups(wrapped)
    wrapped.requires_grad_(False)
    with pytest.raises(ModelError, match="nothing in the model trains"):
        ll.parameter_groups(wrapped, 1e-3)
