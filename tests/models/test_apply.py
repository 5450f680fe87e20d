"""A plan becomes exactly the PeftModel that it says, also after saving, and a refused one changes nothing."""

import copy
import itertools
import json
import os
import re
import subprocess
import sys

import attrs
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from torch import nn

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attach import attach_lora, temporary_lora
from layerlens_core.adaptation.attached import lora_layers, trainable_parameters
from layerlens_core.adaptation.target_patterns import exactly
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import ModelError, PlanError, PluginError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.values.costs import Cost
from layerlens_core.values.profile import Profile
from layerlens_core.values.scores import RawScores
from probing import logits, perturb

pytestmark = [
    # Of PEFT, where a test calls it itself; that `apply` is silent is tested below.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]

#: Every kind of layer, head and name that PEFT has to find.
APPLIED = (
    "llama",
    "bert-classifier",
    "roberta-classifier",
    "distilbert-classifier",
    "gpt2",
    "t5",
    "vit",
    "albert-classifier",
)

#: Loads base models and adapters as a user's own program would, without LayerLens.
LOADER = """
import json, sys
import torch, transformers
from pathlib import Path
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

assert not any(name.startswith("layerlens") for name in sys.modules)
for run in map(Path, sys.argv[1:]):
    architecture = json.loads((run / "base" / "config.json").read_text())["architectures"][0]
    base = getattr(transformers, architecture).from_pretrained(run / "base")
    model = PeftModel.from_pretrained(base, run / "adapter").eval()
    with torch.no_grad():
        save_file({"logits": model(**load_file(run / "inputs.safetensors")).logits}, run / "logits.safetensors")
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    made = {n: [m.r["default"], m.scaling["default"]] for n, m in layers.items()}
    (run / "made.json").write_text(json.dumps(made))
"""


class TwoTowers(transformers.LlamaForCausalLM):
    """A model with a draft model inside, in which every name is the end of another."""

    def __init__(self, config):
        super().__init__(config)
        self.draft = nn.Module()
        self.draft.model = transformers.LlamaModel(config)


class Misnamed(transformers.BertForSequenceClassification):
    """A body with a module whose name ends like that of the head."""

    def __init__(self, config):
        super().__init__(config)
        self.bert.encoder.layer[1].token_classifier = nn.Linear(32, 32)


class Within(transformers.BertForSequenceClassification):
    """A body with targets inside a module of the head's name."""

    def __init__(self, config):
        super().__init__(config)
        self.bert.encoder.layer[1].classifier = nn.Sequential(nn.Linear(32, 32))


def ranks_of(model):
    return {name: layer.r["default"] for name, layer in lora_layers(model).items()}


def scales_of(model):
    return {name: layer.scaling["default"] for name, layer in lora_layers(model).items()}


def deep_llama(layers=12):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2, vocab_size=97
    )
    return transformers.LlamaForCausalLM(config).eval()


def projections(layers, names=("q_proj", "v_proj")):
    return [f"model.layers.{layer}.self_attn.{name}" for layer in layers for name in names]


@pytest.fixture(params=APPLIED)
def applied(request, named_family, plan_of, mixed_ranks):
    """A family, its planned model, the ranks, and the plan."""
    family = named_family(request.param)
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
    assert plan.head_parameters == sum(head.parameters for head in family.heads)
    total = sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)
    assert total == plan.parameters + plan.head_parameters


def test_heads_train_in_full_and_nothing_else_does(applied):
    family, model, _, plan = applied
    wrapped = apply(model, plan)
    base = wrapped.get_base_model()
    kept = {name for name, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    assert kept == {head.name for head in family.heads}
    for head in family.heads:
        module = base.get_submodule(head.name)
        trained = [p.numel() for p in module.modules_to_save["default"].parameters() if p.requires_grad]
        assert sum(trained) == head.parameters
        assert not any(parameter.requires_grad for parameter in module.original_module.parameters())


@pytest.mark.parametrize("scale", [1, 2, 16])
def test_the_scale_does_not_depend_on_the_rank(named_family, plan_of, mixed_ranks, scale):
    model = named_family("llama").build()
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


def test_a_fresh_process_computes_the_same_to_the_last_bit(named_family, plan_of, mixed_ranks, tmp_path):
    expected, planned = {}, {}
    for name in APPLIED:
        family, run = named_family(name), tmp_path / name
        model = family.build()
        ranks = mixed_ranks(model)
        model.save_pretrained(run / "base")
        base = logits(model, family)
        wrapped = apply(model, plan_of(model, ranks)).eval()
        perturb(wrapped)
        wrapped.save_pretrained(run / "adapter")
        save_file(family.inputs(), run / "inputs.safetensors")
        expected[name], planned[name] = logits(wrapped, family), ranks
        assert not torch.allclose(expected[name], base)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", LOADER, *(str(tmp_path / name) for name in APPLIED)]
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
def test_an_allocated_plan_can_be_applied(named_family, name):
    model = named_family(name).build()
    inventory = inspect(model)
    scores = RawScores(
        metric="by hand",
        unit="1",
        granularity="module",
        values={module.name: float(1 + 7 * at % 13) for at, module in enumerate(inventory.modules)},
    )
    profile = Profile(
        inventory=inventory, task="", scores=(scores,), statistics=(), data="by hand", samples=1, loss=0.0
    )
    plan = allocate(profile, budget=Budget(params="r=4"), methods=["lora"], scale=3)
    assert {decision.method for decision in plan.decisions} == {"lora", "none"}
    ranks = plan.sizes("lora")
    assert len(set(ranks.values())) > 1
    wrapped = apply(model, plan)
    assert ranks_of(wrapped) == ranks
    assert set(scales_of(wrapped).values()) == {3.0}
    assert trainable_parameters(wrapped) == (plan.parameters, plan.head_parameters)
    assert 0 < plan.parameters <= inventory.lora_parameters(4)


# --- names that are traps


def test_layer_1_is_not_layers_10_and_11(plan_of):
    base = deep_llama()
    planned = projections([1])
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=r".*layers.1.*\.[qv]_proj"))
    assert set(ranks_of(naive)) == set(projections([1, 10, 11]))
    wrapped = apply(base, plan_of(base, dict.fromkeys(planned, 2)))
    assert ranks_of(wrapped) == dict.fromkeys(planned, 2)


def test_the_rank_of_layer_1_is_not_that_of_layers_10_and_11(plan_of):
    base = deep_llama()
    ranks = {name: 5 if ".1." in name else 3 if ".11." in name else 2 for name in projections(range(12))}
    naive = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.1.*_proj": 5, "layers.11.*_proj": 3}
    )
    made = ranks_of(get_peft_model(copy.deepcopy(base), naive))
    assert {name for name, rank in made.items() if rank != ranks[name]} == set(projections([10, 11]))
    assert ranks_of(apply(base, plan_of(base, ranks))) == ranks


def test_saving_keeps_ranks_and_scales_though_it_does_not_keep_the_order_of_patterns(plan_of, tmp_path):
    base = deep_llama(3)
    ranks = dict(zip(projections(range(3)), (1, 2, 3, 4, 5, 3), strict=True))

    def reloaded(model, where):
        model.save_pretrained(tmp_path / where)
        return PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / where)

    patterns = {r"layers\.1\..*_proj": 64, r".*_proj": 32}
    naive = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], alpha_pattern=patterns)
    made = get_peft_model(copy.deepcopy(base), naive)
    before, after = scales_of(made), scales_of(reloaded(made, "naive"))
    assert {name for name in before if before[name] != after[name]} == set(projections([1]))

    wrapped = apply(copy.deepcopy(base), plan_of(base, ranks))
    loaded = reloaded(wrapped, "planned")
    assert ranks_of(wrapped) == ranks_of(loaded) == ranks
    assert set(scales_of(loaded).values()) == {2.0}
    config = json.loads((tmp_path / "planned" / "adapter_config.json").read_text())
    for name, rank in ranks.items():
        assert [other for pattern, other in config["rank_pattern"].items() if hits(pattern, name)] == (
            [rank] if rank != config["r"] else []
        )


def test_a_second_tower_of_the_same_names_is_left_alone(named_family, plan_of):
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
        ),
        text_config=transformers.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=97
        ),
    )
    base = transformers.LlavaForConditionalGeneration(config)
    layers = [layer.name for layer in inspect(base).layers]
    assert layers == [
        f"model.{tower}.{at}" for tower in ("vision_tower.encoder.layers", "language_model.layers") for at in (0, 1)
    ]
    planned = {
        f"model.language_model.layers.{at}.self_attn.{name}": 3 for at in (0, 1) for name in ("q_proj", "v_proj")
    }
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(r=3, target_modules=["q_proj", "v_proj"]))
    assert {name for name in ranks_of(naive) if "vision_tower" in name}
    assert ranks_of(apply(base, plan_of(base, planned))) == planned


def test_an_encoder_is_planned_without_its_decoder(named_family, plan_of):
    base = named_family("t5").build()
    planned = {f"encoder.block.{at}.layer.0.SelfAttention.{name}": at + 1 for at in (0, 1) for name in "qv"}
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["q", "v"]))
    assert {name for name in ranks_of(naive) if name.startswith("decoder")}
    assert ranks_of(apply(base, plan_of(base, planned))) == planned


@pytest.mark.parametrize("layers", [1, 3])
def test_names_that_are_the_end_of_other_names_are_no_patterns(named_family, plan_of, layers):
    """Also more than twenty of them, which PEFT would condense to the ends that suffice."""
    base = TwoTowers(transformers.LlamaConfig(**named_family("llama").config))
    inventory = inspect(base)
    planned = {m.name: 2 for layer in inventory.layers[:layers] for m in layer.modules}
    assert (len(planned) > 20) == (layers == 3)
    assert all(name.startswith("model.") for name in planned)
    naive = LoraConfig(r=2, target_modules=list(planned))
    made = ranks_of(get_peft_model(copy.deepcopy(base), naive))
    assert made.keys() - planned == {f"draft.{name}" for name in planned}
    assert (len(naive.target_modules) < len(planned)) == (layers == 3)
    assert ranks_of(apply(base, plan_of(base, planned))) == planned


@pytest.mark.parametrize(
    ("architecture", "name"),
    [(Misnamed, "bert.encoder.layer.1.token_classifier"), (Within, "bert.encoder.layer.1.classifier")],
)
def test_a_body_with_the_name_of_its_head_is_refused(named_family, plan_of, snapshot, architecture, name):
    """PEFT takes heads by the end of their names only, and would train more in full without a word."""
    base = architecture(transformers.BertConfig(**named_family("bert-classifier").config)).eval()
    assert [head.name for head in inspect(base).heads] == ["classifier"]
    ranks = dict.fromkeys(("bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense"), 2)
    naive = LoraConfig(r=2, target_modules=exactly(ranks), modules_to_save=["classifier"])
    modules = get_peft_model(copy.deepcopy(base), naive).get_base_model().named_modules()
    assert {n for n, m in modules if isinstance(m, ModulesToSaveWrapper)} == {"classifier", name}
    refused(base, plan_of(base, ranks), snapshot, ModelError, f"would train {name} in full, .* the head classifier")


@given(st.lists(st.lists(st.sampled_from(["a", "b", "1", "11", "a+"]), min_size=1, max_size=4), min_size=1, max_size=8))
def test_a_pattern_matches_exactly_the_names_that_it_was_made_of(parts):
    names = {".".join(name) for name in parts}
    pattern = re.compile(exactly(names))
    every = {
        ".".join(name)
        for length in range(1, 5)
        for name in itertools.product(["a", "b", "1", "11", "a+"], repeat=length)
    }
    assert {name for name in every if pattern.fullmatch(name)} == names


@pytest.mark.parametrize("name", ["a.b", "a.(b)", "layers.1.x|y", "w[0].*", "ü.q"])
def test_an_exact_pattern_matches_its_names_alone(name):
    pattern = exactly([name, "other.name"])
    others = [f"x.{name}", f"{name}.x", name[:-1], name + "0", name.replace(".", "_"), "", "name", "other_name"]
    assert all(hits(pattern, found) for found in (name, "other.name"))
    assert [other for other in others if hits(pattern, other)] == []


def hits(pattern, name):
    """Whether PEFT takes a name for a target under a pattern, and whether it takes its rank from it."""
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    target = bool(check_target_module_exists(LoraConfig(target_modules=pattern), name))
    assert target == (get_pattern_key([pattern], name) == pattern)
    return target


# --- what is refused, before anything is changed


def refused(model, plan, snapshot, error, message):
    before = snapshot(model)
    with pytest.raises(error, match=message):
        apply(model, plan)
    assert snapshot(model) == before


def test_another_model_is_refused(named_family, plan_of, mixed_ranks, snapshot):
    llama = named_family("llama").build()
    plan = plan_of(llama, mixed_ranks(llama))
    other = named_family("gpt2").build()
    refused(other, plan, snapshot, ModelError, r"for another model.*GPT2LMHeadModel; it has no module model\.layers\.0")
    refused(
        named_family("mistral").build(),
        plan,
        snapshot,
        ModelError,
        "MistralForCausalLM; its modules are the same, but it is of another kind",
    )
    refused(
        named_family("qwen3").build(),
        plan,
        snapshot,
        ModelError,
        r"Qwen3ForCausalLM; model\.layers\.0\.self_attn\.q_proj is of in features 32",
    )
    apply(llama, plan)


def test_the_same_body_with_another_head_is_refused(named_family, plan_of, mixed_ranks, snapshot):
    """Names and shapes of layers are the same, but a random head would stay frozen, or a head is not there."""
    causal, classifier = named_family("llama").build(), named_family("llama-classifier").build()
    assert inspect(causal).fingerprint == inspect(classifier).fingerprint
    ranks = mixed_ranks(causal)
    for_causal, for_classifier = plan_of(causal, ranks), plan_of(classifier, ranks)
    refused(classifier, for_causal, snapshot, ModelError, "heads are score of 96 parameters, planned were none")
    refused(causal, for_classifier, snapshot, ModelError, "heads are none, planned were score of 96 parameters")


def test_a_method_on_what_it_cannot_attach_to_is_refused(named_family, plan_of, mixed_ranks, snapshot):
    model = named_family("llama").build()
    plan = plan_of(model, mixed_ranks(model), method="prefix")
    refused(model, plan, snapshot, PlanError, r"puts prefix on model\.layers\.0\..*, which is no place for it")


def test_a_method_that_nothing_provides_is_refused(named_family, plan_of, mixed_ranks, snapshot):
    model = named_family("llama").build()
    plan = plan_of(model, mixed_ranks(model), method="vera")
    refused(model, plan, snapshot, PluginError, "no method is named 'vera'")


def test_a_model_that_is_wrapped_already_is_refused(named_family, plan_of, mixed_ranks):
    model = named_family("llama").build()
    plan = plan_of(model, mixed_ranks(model))
    wrapped = apply(model, plan)
    made = {name: id(module) for name, module in wrapped.named_modules()}
    for again in (wrapped, model):
        with pytest.raises(ModelError, match="already carries PEFT adapters"):
            apply(again, plan)
    assert {name: id(module) for name, module in wrapped.named_modules()} == made
    apply(wrapped.unload(), plan)


def test_a_plan_that_trains_nothing_is_refused(named_family, plan_of, snapshot):
    model = named_family("llama").build()
    refused(model, plan_of(model, {}), snapshot, PlanError, "trains nothing")


def test_a_plan_whose_ranks_do_not_add_up_is_refused(named_family, plan_of, mixed_ranks, snapshot):
    model = named_family("llama").build()
    plan = plan_of(model, mixed_ranks(model))
    edited = attrs.evolve(plan, cost=plan.cost + Cost(params=1))
    refused(model, edited, snapshot, PlanError, f"for {edited.parameters:,} .* but its sizes take {plan.parameters:,}")


# --- LoRA for a while


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", APPLIED)
def test_temporary_lora_leaves_nothing_behind(named_family, mixed_ranks, odd_state, snapshot, name, checkpointing):
    family = named_family(name)
    model = odd_state(family.build())
    if checkpointing:
        if not model.supports_gradient_checkpointing:
            pytest.skip(f"{name} has no gradient checkpointing")
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()  # which PEFT will do again
    ranks, heads = mixed_ranks(model), [head.name for head in family.heads]
    before = snapshot(model)
    state = torch.get_rng_state()
    with temporary_lora(model, ranks, scale=3, heads=heads) as tuned:
        assert ranks_of(tuned) == ranks
        assert set(scales_of(tuned).values()) == {3.0}
        assert trainable_parameters(tuned)[1] == sum(head.parameters for head in family.heads)
        optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
        tuned(**family.inputs(labels=True)).loss.backward()
        optimizer.step()
    torch.set_rng_state(state)  # drawing is the caller's to undo
    assert snapshot(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_temporary_lora_leaves_nothing_behind_after_an_exception(named_family, mixed_ranks, odd_state, snapshot):
    family = named_family("distilbert-classifier")
    model = odd_state(family.build())
    ranks = mixed_ranks(model)
    before = snapshot(model)
    state = torch.get_rng_state()

    class Stop(Exception):
        pass

    with pytest.raises(Stop), temporary_lora(model, ranks, scale=2, heads=["pre_classifier", "classifier"]):
        raise Stop
    torch.set_rng_state(state)
    assert snapshot(model) == before


def test_temporary_lora_leaves_nothing_behind_where_peft_stops_halfway(named_family, snapshot):
    model = named_family("llama").build()
    before = snapshot(model)
    state = torch.get_rng_state()
    ranks = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.self_attn.q_proj": 0}
    attached = []
    with pytest.raises(ValueError, match="`r` should be a positive"), temporary_lora(model, ranks, scale=2) as tuned:
        attached.append(tuned)
    torch.set_rng_state(state)
    assert not attached
    assert snapshot(model) == before


def test_temporary_lora_can_be_used_again_and_then_applied(named_family, plan_of, mixed_ranks):
    family = named_family("bert-classifier")
    model = family.build()
    ranks = mixed_ranks(model)
    before = logits(model, family)
    for _ in range(2):
        with temporary_lora(model, ranks, scale=2, heads=["classifier"]) as tuned:
            perturb(tuned)
            assert not torch.allclose(logits(model, family), before)
        assert torch.equal(logits(model, family), before)
    assert ranks_of(apply(model, plan_of(model, ranks))) == ranks


def test_attaching_names_the_base_model(named_family, mixed_ranks, tmp_path):
    named_family("llama").build().save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    wrapped = attach_lora(model, mixed_ranks(model), scale=2)
    assert wrapped.peft_config["default"].base_model_name_or_path == str(tmp_path)


def test_a_part_of_a_mixture_of_experts_is_adapted_though_peft_rewrites_its_patterns(plan_of, tmp_path):
    config = transformers.Qwen3MoeConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        num_experts=4,
        moe_intermediate_size=8,
        vocab_size=50,
    )
    model = transformers.Qwen3MoeForCausalLM(config)
    base = copy.deepcopy(model)
    upper = {module.name: rank for rank, module in enumerate(inspect(model).layers[1].modules, start=1)}
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(target_modules=exactly(upper)))
    assert len(ranks_of(naive)) == 2 * len(upper)
    wrapped = apply(model, plan_of(model, upper))
    assert ranks_of(wrapped) == upper
    wrapped.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["peft_type"], sorted(saved["target_modules"])) == ("LORA", sorted(upper))
    assert ranks_of(PeftModel.from_pretrained(base, tmp_path)) == upper
