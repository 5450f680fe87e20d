"""Names that are traps: what PEFT takes by parts and ends of names, a plan takes by full names."""

import copy
import itertools
import json
import re

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from torch import nn

import zoo
from adaptation.applied import ranks_of, refused, scales_of
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.target_patterns import exactly, names_in
from layerlens_core.errors import ModelError
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_of

pytestmark = [
    # Of PEFT, where a test calls it itself; that `apply` is silent is tested below.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


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


def deep_llama(layers=12):
    return zoo.find("llama").with_config(num_hidden_layers=layers).build()


def projections(layers, names=("q_proj", "v_proj")):
    return [f"model.layers.{layer}.self_attn.{name}" for layer in layers for name in names]


def test_layer_1_is_not_layers_10_and_11():
    base = deep_llama()
    planned = projections([1])
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=r".*layers.1.*\.[qv]_proj"))
    assert set(ranks_of(naive)) == set(projections([1, 10, 11]))
    wrapped = apply(base, plan_of(base, dict.fromkeys(planned, 2)))
    assert ranks_of(wrapped) == dict.fromkeys(planned, 2)


def test_the_rank_of_layer_1_is_not_that_of_layers_10_and_11():
    base = deep_llama()
    ranks = {name: 5 if ".1." in name else 3 if ".11." in name else 2 for name in projections(range(12))}
    naive = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.1.*_proj": 5, "layers.11.*_proj": 3}
    )
    made = ranks_of(get_peft_model(copy.deepcopy(base), naive))
    assert {name for name, rank in made.items() if rank != ranks[name]} == set(projections([10, 11]))
    assert ranks_of(apply(base, plan_of(base, ranks))) == ranks


def test_saving_keeps_ranks_and_scales_though_it_does_not_keep_the_order_of_patterns(tmp_path):
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

    wrapped = apply(copy.deepcopy(base), plan_of(base, ranks), one_rank=False)
    loaded = reloaded(wrapped, "planned")
    assert ranks_of(wrapped) == ranks_of(loaded) == ranks
    assert set(scales_of(loaded).values()) == {2.0}
    config = json.loads((tmp_path / "planned" / "adapter_config.json").read_text())
    for name, rank in ranks.items():
        assert [other for pattern, other in config["rank_pattern"].items() if hits(pattern, name)] == (
            [rank] if rank != config["r"] else []
        )


def test_a_second_tower_of_the_same_names_is_left_alone():
    base = zoo.build("llava")
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


def test_an_encoder_is_planned_without_its_decoder():
    base = zoo.build("t5")
    planned = {f"encoder.block.{at}.layer.0.SelfAttention.{name}": at + 1 for at in (0, 1) for name in "qv"}
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=["q", "v"]))
    assert {name for name in ranks_of(naive) if name.startswith("decoder")}
    assert ranks_of(apply(base, plan_of(base, planned))) == planned


@pytest.mark.parametrize("layers", [1, 3])
def test_names_that_are_the_end_of_other_names_are_no_patterns(layers):
    """Also more than twenty of them, which PEFT would condense to the ends that suffice."""
    base = TwoTowers(transformers.LlamaConfig(**zoo.find("llama").config))
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
def test_a_body_with_the_name_of_its_head_is_refused(architecture, name):
    """PEFT takes heads by the end of their names only, and would train more in full without a word."""
    base = architecture(transformers.BertConfig(**zoo.find("bert-classifier").config)).eval()
    assert [head.name for head in inspect(base).heads] == ["classifier"]
    ranks = dict.fromkeys(("bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense"), 2)
    naive = LoraConfig(r=2, target_modules=exactly(ranks), modules_to_save=["classifier"])
    modules = get_peft_model(copy.deepcopy(base), naive).get_base_model().named_modules()
    assert {n for n, m in modules if isinstance(m, ModulesToSaveWrapper)} == {"classifier", name}
    refused(base, plan_of(base, ranks), ModelError, f"would train {name} in full, .* the head classifier")


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
    assert names_in(pattern.pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.q_proj", "^(a+)+$", "^a{3}$", "^a?$", r"^\d$", "^[ab]$", "(?!)", "", "^$", "^(?:a|)$", "^a)$", "^(?:a$",
        "^a\\", "^a\\\n$", "^a\x1b$",
        f"^{'(?:a|b)' * 40}$", f"^{'(?:' * 5000}a{')' * 5000}$", f"^{'a' * 10**6}{'(?:b|c)' * 16}$",
    ],
)  # fmt: skip
def test_a_pattern_of_another_kind_is_none_of_ours(pattern):
    assert names_in(pattern) is None


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


def test_a_part_of_a_mixture_of_experts_is_adapted_though_peft_rewrites_its_patterns(tmp_path):
    model = zoo.build("qwen3_moe")
    base = copy.deepcopy(model)
    upper = {module.name: rank for rank, module in enumerate(inspect(model).layers[1].modules, start=1)}
    naive = get_peft_model(copy.deepcopy(base), LoraConfig(target_modules=exactly(upper)))
    assert len(ranks_of(naive)) == 2 * len(upper)
    wrapped = apply(model, plan_of(model, upper), one_rank=False)
    assert ranks_of(wrapped) == upper
    wrapped.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["peft_type"], sorted(saved["target_modules"])) == ("LORA", sorted(upper))
    assert ranks_of(PeftModel.from_pretrained(base, tmp_path)) == upper
