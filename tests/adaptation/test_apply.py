"""A plan becomes exactly the PeftModel that it says, also after saving, and a refused one changes nothing."""

import json
import os
import subprocess
import sys

import attrs
import pytest
import torch
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file

import zoo
from adaptation.applied import APPLIED, PLAIN_LOADER, ranks_of, refused, scales_of
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import trainable_parameters
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import ModelError, PlanError, PluginError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.values.costs import Cost, Limits
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores
from zoo.plans import mixed_ranks, plan_of
from zoo.probing import logits, perturb

pytestmark = [
    # Of PEFT, where a test calls it itself; that `apply` is silent is tested below.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


@pytest.fixture(params=APPLIED)
def applied(request):
    """A family, its planned model, the ranks, and the plan."""
    family = zoo.find(request.param)
    model = family.build()
    ranks = mixed_ranks(model)
    assert len(set(ranks.values())) > 2
    return family, model, ranks, plan_of(model, ranks)


# --- what is built


def test_every_module_gets_its_rank_and_one_scale_and_the_others_stay_plain(applied):
    family, model, ranks, plan = applied
    originals = dict(model.named_modules())
    shapes = {name: originals[name].weight.shape for name in ranks}
    wrapped = apply(model, plan)
    assert ranks_of(wrapped) == ranks
    assert scales_of(wrapped) == dict.fromkeys(ranks, 2.0)
    modules = dict(wrapped.get_base_model().named_modules())
    for name, rank in ranks.items():
        trained = [p.numel() for p in modules[name].parameters() if p.requires_grad]
        assert sum(trained) == rank * sum(shapes[name])
        assert modules[name].get_base_layer() is originals[name]
        assert modules[name].lora_A["default"].weight.shape[0] == rank
    heads = [head.name for head in plan.heads]
    untouched = {
        name: module
        for name, module in originals.items()
        if linear_kind(module) and name not in ranks and not any(f"{name}.".startswith(f"{head}.") for head in heads)
    }
    assert len(untouched) > 1 or family.name.startswith("albert")
    for name, module in untouched.items():
        assert modules[name] is module
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_the_trainable_parameters_are_the_planned_ones(applied):
    family, model, _, plan = applied
    assert {decision.method for decision in plan.decisions} == (
        {"lora", "none"} if len(plan.decisions) > 1 else {"lora"}
    )
    wrapped = apply(model, plan)
    assert trainable_parameters(wrapped) == (plan.parameters, plan.head_parameters)
    assert plan.head_parameters == sum(head.parameters for head in family.expected.heads)
    total = sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)
    assert total == plan.parameters + plan.head_parameters


def test_heads_train_in_full_and_nothing_else_does(applied):
    family, model, _, plan = applied
    wrapped = apply(model, plan)
    base = wrapped.get_base_model()
    kept = {name for name, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    assert kept == {head.name for head in family.expected.heads}
    for head in family.expected.heads:
        module = base.get_submodule(head.name)
        trained = [p.numel() for p in module.modules_to_save["default"].parameters() if p.requires_grad]
        assert sum(trained) == head.parameters
        assert not any(parameter.requires_grad for parameter in module.original_module.parameters())


@pytest.mark.parametrize("scale", [1, 2, 16])
def test_the_scale_does_not_depend_on_the_rank(scale):
    model = zoo.build("llama")
    ranks = mixed_ranks(model)
    wrapped = apply(model, plan_of(model, ranks, scale=scale))
    assert set(scales_of(wrapped).values()) == {float(scale)}
    config = wrapped.peft_config["default"]
    assert (config.r, config.lora_alpha) == (max(ranks.values()), scale * max(ranks.values()))


def test_it_computes_what_the_model_did_to_the_last_bit(applied):
    family, model, _, plan = applied
    before = logits(model, family)
    wrapped = apply(model, plan)
    assert torch.equal(logits(wrapped, family), before)
    perturb(wrapped)
    assert not torch.allclose(logits(wrapped, family), before)


def test_training_moves_all_that_is_planned_and_not_one_bit_beside_it(applied):
    family, model, _, plan = applied
    frozen = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    wrapped = apply(model, plan)
    trained = {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    assert not {id(p) for p in trained.values()} & {id(parameter) for parameter, _ in frozen}
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(6):
        loss = wrapped(**family.inputs(labels=True)).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.01
    assert all(torch.equal(parameter, before) and parameter.grad is None for parameter, before in frozen)
    assert all(torch.equal(buffer, before) for buffer, before in buffers)
    assert [name for name, parameter in trained.items() if torch.equal(parameter, start[name])] == []


def test_applying_is_silent(applied, recwarn):
    _, model, _, plan = applied
    apply(model, plan)
    assert [str(warning.message) for warning in recwarn] == []


def test_a_fresh_process_computes_the_same_to_the_last_bit(tmp_path):
    expected, planned = {}, {}
    for name in APPLIED:
        family, run = zoo.find(name), tmp_path / name
        model = family.build()
        ranks = mixed_ranks(model)
        model.save_pretrained(run / "base")
        base = logits(model, family)
        wrapped = apply(model, plan_of(model, ranks), one_rank=False).eval()
        perturb(wrapped)
        wrapped.save_pretrained(run / "adapter")
        save_file(family.inputs(), run / "inputs.safetensors")
        expected[name], planned[name] = logits(wrapped, family), ranks
        assert not torch.allclose(expected[name], base)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", PLAIN_LOADER, *(str(tmp_path / name) for name in APPLIED)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in APPLIED:
        made = json.loads((tmp_path / name / "made.json").read_text())
        assert made == {module: [rank, 2.0] for module, rank in planned[name].items()}
        loaded = load_file(tmp_path / name / "logits.safetensors")["logits"]
        assert torch.equal(loaded, expected[name]), name


@pytest.mark.parametrize(
    "name",
    [
        "llama", "qwen3", "mistral", "gemma", "bert-classifier", "roberta-classifier", "distilbert-classifier",
        "gpt2", "opt", "t5", "vit",
    ],
)  # fmt: skip
def test_an_allocated_plan_can_be_applied(name):
    model = zoo.build(name)
    inventory = inspect(model)
    scores = RawScores(
        metric="by hand",
        unit="1",
        granularity="module",
        reduction="sum",
        values={module.name: float(1 + 7 * at % 13) for at, module in enumerate(inventory.modules)},
    )
    profile = Profile(
        inventory=inventory, task="", scores=(scores,), statistics=(), data="by hand", samples=1, loss=0.0
    )
    frozen = {"strategy": "threshold", "options": {"quantiles": "0.1"}}
    plan = allocate(profile, budget=Budget(params="r=4"), methods=["lora"], scale=3, **frozen)
    assert {decision.method for decision in plan.decisions} == {"lora", "none"}
    ranks = plan.sizes("lora")
    assert len(set(ranks.values())) > 1
    wrapped = apply(model, plan)
    assert ranks_of(wrapped) == ranks
    assert set(scales_of(wrapped).values()) == {3.0}
    assert trainable_parameters(wrapped) == (plan.parameters, plan.head_parameters)
    assert 0 < plan.parameters <= inventory.lora_parameters(4)


# --- what is refused, before anything is changed


def test_another_model_is_refused():
    llama = zoo.build("llama")
    plan = plan_of(llama, mixed_ranks(llama))
    other = zoo.build("gpt2")
    refused(other, plan, ModelError, r"for another model.*GPT2LMHeadModel; it has no module model\.layers\.0")
    refused(
        zoo.build("mistral"),
        plan,
        ModelError,
        "MistralForCausalLM; its modules are the same, but it is of another kind",
    )
    refused(
        zoo.build("qwen3"),
        plan,
        ModelError,
        r"Qwen3ForCausalLM; model\.layers\.0\.self_attn\.q_proj is of in features 32",
    )
    apply(llama, plan)


def test_the_same_body_with_another_head_is_refused():
    """Names and shapes of layers are the same, but a random head would stay frozen, or a head is not there."""
    causal, classifier = zoo.build("llama"), zoo.build("llama-classifier")
    assert inspect(causal).fingerprint == inspect(classifier).fingerprint
    ranks = mixed_ranks(causal)
    for_causal, for_classifier = plan_of(causal, ranks), plan_of(classifier, ranks)
    refused(classifier, for_causal, ModelError, "heads are score of 96 parameters, planned were none")
    refused(causal, for_classifier, ModelError, "heads are none, planned were score of 96 parameters")


def test_a_method_on_what_it_cannot_attach_to_is_refused():
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model), method="prefix")
    refused(model, plan, PlanError, r"puts prefix on model\.layers\.0\..*, which is no place for it")


def test_a_method_that_nothing_provides_is_refused():
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model), method="vera")
    refused(model, plan, PluginError, "no method is named 'vera'")


def test_a_model_that_is_wrapped_already_is_refused():
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model))
    wrapped = apply(model, plan)
    made = {name: id(module) for name, module in wrapped.named_modules()}
    for again in (wrapped, model):
        with pytest.raises(ModelError, match="already carries PEFT adapters"):
            apply(again, plan)
    assert {name: id(module) for name, module in wrapped.named_modules()} == made
    apply(wrapped.unload(), plan)


def test_a_plan_that_trains_nothing_is_refused():
    model = zoo.build("llama")
    refused(model, plan_of(model, {}), PlanError, "trains nothing")


def test_a_plan_whose_ranks_do_not_add_up_is_refused():
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model))
    more = attrs.evolve(plan.decisions[0], cost=plan.decisions[0].cost + Cost(params=1))
    edited = attrs.evolve(plan, decisions=(more, *plan.decisions[1:]), cost=plan.cost + Cost(params=1))
    refused(model, edited, PlanError, f"for {edited.parameters:,} .* but its sizes take {plan.parameters:,}")


def test_a_plan_above_its_own_limits_is_refused():
    model = zoo.build("llama")
    plan = plan_of(model, mixed_ranks(model))
    bounded = attrs.evolve(plan, limits=Limits(params=plan.parameters))
    refused(model, attrs.evolve(bounded, limits=Limits(params=plan.parameters - 1)), PlanError, "above its own limit")
    apply(model, bounded)
