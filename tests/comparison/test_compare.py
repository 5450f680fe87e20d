"""The whole of a comparison on a tiny model: arms, rates, verdict, files, and what is refused."""

import json

import attrs
import pytest
import torch

import layerlens_core as ll
from layerlens_core.comparison.compared import COMPARED
from layerlens_core.comparison.stacked.runner import Runner
from layerlens_core.errors import ComparisonError, DataError, FileError, ModelError, PluginError
from layerlens_core.values.comparison import Result
from layerlens_core.values.gains import Gains
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile
from layerlens_core.values.recipe import Recipe
from zoo.compared import model_and_samples
from zoo.probing import snapshot

SHORT = {"steps": 24, "batch": 4, "seeds": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, samples, and a run with a profile and a plan."""
    model, samples, task = model_and_samples("llama", count=40)
    run = tmp_path_factory.mktemp("run")
    profile = ll.profile(model, samples, task=task)
    profile.save(run)
    ll.allocate(profile, budget="params=r=2", abstain=False).save(run)
    return model, samples, run


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run, without a comparison."""
    for name in ("profile.json", "plan.json"):
        (tmp_path / name).write_bytes((made[2] / name).read_bytes())
    return tmp_path


def test_the_plan_and_uniform_are_compared_at_rates_that_were_found(made, run):
    model, samples, _ = made
    before = snapshot(model)
    seen = []
    found = ll.compare(
        model, run, samples[10:], samples[:10], arms=("plan", "shuffled"),
        progress=lambda stage, done, total: seen.append((stage, done, total)), **SHORT,
    )  # fmt: skip
    assert snapshot(model) == before
    assert {arm.name for arm in found.arms} >= {"uniform", "plan"}
    assert {curve.arm for curve in found.curves} == {arm.key for arm in found.arms}
    assert found.verdict is not None
    judged = {each.arm: each for each in found.verdict.judged}
    assert judged["uniform"].finding == "uniform"
    assert len(judged["plan"].seeds) == 2
    assert ("arms", 24, 24) in seen
    assert json.loads((run / "compare" / COMPARED).read_text())["setting"] == found.setting
    recipe = Recipe.load(run, Plan.load(run))
    assert recipe is not None
    assert recipe.rate == found.rate("plan params=r=2")
    assert recipe.keys["num_train_epochs"] == pytest.approx(24 * 4 / 30, abs=1e-3)
    assert recipe.keys["learning_rate"] == recipe.rate
    assert recipe.recommended == {"params=r=2": "uniform"} or judged["plan"].finding == "better"


def test_what_is_done_is_not_done_again_and_gives_the_same(made, run, monkeypatch):
    model, samples, _ = made
    first = ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    written = (run / "compare" / COMPARED).read_bytes()
    monkeypatch.setattr(Runner, "__call__", lambda *_: pytest.fail("it trained again"))
    assert ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT) == first
    assert (run / "compare" / COMPARED).read_bytes() == written


def test_without_held_out_samples_some_are_split_off_and_it_is_said(made, run):
    model, samples, _ = made
    found = ll.compare(model, run, samples, rates=(1e-2,), **SHORT)
    assert found.samples == 32
    assert found.notes == ("8 of the samples were held out, since no others were given",)
    assert any("8 held-out" in warning or "fewer than 50" in warning for warning in found.verdict.warnings)


def test_samples_that_are_the_same_stay_on_one_side(made):
    from layerlens_core.comparison.setting import split_off

    _, samples, _ = made
    training, held_out = split_off([*samples[:10], *samples[:10]], seed=0)
    kinds = [{tuple(sample["input_ids"].tolist()) for sample in part} for part in (training, held_out)]
    assert not kinds[0] & kinds[1]
    assert len(training) + len(held_out) == 20
    with pytest.raises(DataError, match="none is left to train on"):
        split_off(samples[:1] * 5, seed=0)


def test_every_rule_that_this_profile_allows_is_trained(made, run):
    model, samples, _ = made
    names = ("shuffled", "mlp-only", "attention-only", "top-half", "dominant", "gora", "eva", "adalora", "full")
    before = snapshot(model)
    found = ll.compare(
        model, run, samples[10:], samples[:10], arms=names, rates=(5e-3,), seeds=1, steps=12, batch=4,
        budgets=("r=2",),
    )  # fmt: skip
    assert snapshot(model) == before
    names_of = {arm.name for arm in found.arms} | {each.name for each in found.dropped}
    assert names_of == {"uniform", *names}
    assert {"eva", "adalora", "full", "mlp-only"} <= {arm.name for arm in found.arms}
    assert all(each.loss is not None for each in found.verdict.judged)


def test_arms_of_methods_bring_one_of_nothing_and_give_gain_curves(made, run):
    model, samples, _ = made
    found = ll.compare(
        model, run, samples[10:], samples[:10], arms=("method:lora", "method:adapter"), rates=(1e-2,), seeds=1,
        steps=24, batch=4, budgets=("r=1", "r=4"),
    )  # fmt: skip
    assert [arm.key for arm in found.arms if arm.name == "none"] == ["none r=1"]
    (nothing,) = (each for each in found.verdict.judged if each.arm == "none")
    assert nothing.loss > max(each.loss for each in found.verdict.judged if each.arm == "uniform")
    assert found.gains.curves.keys() == {"lora", "adapter"}
    assert Gains.load(run) == found.gains
    # The next plan of the run is made by them, and says so.
    profile = Profile.load(run)
    planned = ll.allocate(profile, budget="params=r=2", methods="lora,adapter", gains=run)
    assert planned.request.gains == found.gains.curves
    # A comparison without such arms leaves them as they are.
    ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    assert Gains.load(run) == found.gains


def test_only_rates(made, run):
    model, samples, _ = made
    found = ll.compare(model, run, samples[10:], samples[:10], only="lr", arms=(), **SHORT)
    assert found.verdict is None
    assert [curve.arm for curve in found.curves] == ["uniform params=r=2"]
    recipe = Recipe.load(run, Plan.load(run))
    assert recipe is not None
    assert recipe.rate == found.curves[0].rate
    assert recipe.recommended == {}


def test_a_rate_at_which_whole_runs_fall_off_is_halved(made, run, monkeypatch):
    model, samples, _ = made
    real = Runner.__call__

    def falling(self, jobs):
        for result in real(self, jobs):
            whole = result.job.schedule.steps == 24
            yield Result(job=result.job, diverged=True) if whole and result.job.rate > 6e-3 else result

    monkeypatch.setattr(Runner, "__call__", falling)
    found = ll.compare(model, run, samples[10:], samples[:10], arms=("plan",), **SHORT)
    assert {each.finding for each in found.verdict.judged} <= {"uniform", "same", "no difference", "better", "worse"}
    assert all(each.rate <= 6e-3 for each in found.verdict.judged)
    assert all(len(each.seeds) == 2 for each in found.verdict.judged)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arms": ("plam",)}, PluginError, "no arm is named 'plam'.*Did you mean 'plan'"),
        ({"seeds": 0}, ComparisonError, "at least one seed"),
        ({"budgets": ("r=0.001",)}, Exception, "r=0.001"),
        ({"rates": (1e-2,), "confidence": 2.0}, ComparisonError, "confidence 2.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(made, run, options, error, message):
    model, samples, _ = made
    with pytest.raises(error, match=message):
        ll.compare(model, run, samples[10:], samples[:10], **{**SHORT, **options})


def test_another_model_and_other_data_are_refused_by_name(made, run):
    model, samples, _ = made
    ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    with pytest.raises(FileError, match=r"held_out|held-out"):
        ll.compare(model, run, samples[10:], samples[:9], rates=(1e-2,), **SHORT)
    other, *_ = model_and_samples("llama", count=40)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    with pytest.raises(FileError, match="model"):
        ll.compare(other, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    bert, *_ = model_and_samples("bert")
    with pytest.raises(ModelError, match="the plan is for another model"):
        ll.compare(bert, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)


def test_no_labels_no_comparison(made, run):
    model, samples, _ = made
    blank = [sample | {"labels": torch.full_like(sample["labels"], -100)} for sample in samples]
    with pytest.raises(DataError, match="no training sample has a label"):
        ll.compare(model, run, blank, samples[:10], **SHORT)


def test_a_recipe_of_another_plan_is_refused(made, run):
    model, samples, _ = made
    ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    plan = Plan.load(run)
    with pytest.raises(FileError, match=r"recipe.json is not the recipe of .*plan.json; remove it, and compare anew"):
        Recipe.load(run, attrs.evolve(plan, task="masked-lm"))
    recipe = Recipe.load(run, plan)
    attrs.evolve(recipe, rate=-1.0).save(run)
    with pytest.raises(FileError, match="is damaged: a rate of -1"):
        Recipe.load(run, plan)


def test_a_plan_that_memory_bounds_too_is_compared_as_it_is_beside_uniform_of_both_kinds(made, run):
    model, samples, _ = made
    profile = Profile.load(run)
    whole = Plan.load(run).cost.memory
    plan = ll.allocate(profile, budget=["params=r=2", f"memory={0.9 * whole:.0f}B"], abstain=False)
    assert any(decision.method == "none" for decision in plan.decisions)
    plan.save(run)
    found = ll.compare(model, run, samples[10:], samples[:10], rates=(1e-2,), **SHORT)
    (budget,) = {arm.budget for arm in found.arms}
    by_name = {arm.name: arm for arm in found.arms}
    assert by_name["plan"].sizes["lora"] == plan.sizes("lora")
    assert set(by_name) == {"uniform", "plan", "strategy:uniform"}
    assert by_name["uniform"].memory > plan.limits.memory >= by_name["strategy:uniform"].memory
    assert [note for note in found.notes if note.startswith(f"uniform {budget} is not held to memory=")]
    recipe = Recipe.load(run, plan)
    assert recipe is not None
    assert (recipe.budget, recipe.rate) == (budget, 1e-2)


def test_cores_lie_in_the_files_beside_the_profile(made, tmp_path):
    model, samples, _ = made
    profile = ll.profile(model, samples, task="causal-lm", directions=tmp_path, warm_up=3, run=tmp_path)
    profile.save(tmp_path)
    ll.allocate(profile, budget="params=r=2", methods=("none", "lora"), abstain=False).save(tmp_path)
    before = snapshot(model)
    names = ("core", "core+gradient", "core+weights", "core+random", "method:core")
    found = ll.compare(
        model, tmp_path, samples[10:], samples[:10], arms=names, budgets=("r=0.5", "r=2"), rates=(1e-2,), **SHORT
    )
    assert snapshot(model) == before
    subspaces = {arm.key: arm.subspace for arm in found.arms}
    assert subspaces["core r=2"] == subspaces["method:core r=2"] == profile.warm_up.digest
    assert subspaces["core+gradient r=0.5"] == profile.directions
    half = {arm.key: arm.parameters for arm in found.arms}["core r=0.5"]
    assert 0 < half <= profile.inventory.lora_parameters(1) / 2
    assert "uniform r=0.5" not in subspaces
    (tmp_path / "subspace.safetensors").unlink()
    with pytest.raises(FileError, match=r"subspace\.safetensors does not exist"):
        ll.compare(model, tmp_path, samples[10:], samples[:10], arms=names, rates=(1e-2,), **SHORT)
