"""Estimates from configurations, held against `allocate` after real profiles of the same shape."""

import json
import resource
from pathlib import Path

import pytest

import layerlens_core as ll
import zoo
from layerlens_core.errors import BudgetError, ModelError
from layerlens_core.estimating.estimated import PACKED
from layerlens_core.profiling.profile import profile
from layerlens_core.values.costs import Training
from zoo.configured import configuration
from zoo.wide import samples

CONFIGURATIONS = Path(__file__).parents[1] / "fixtures" / "configurations"
LENGTH = 64


@pytest.mark.parametrize("name", ["llama-wide", "qwen3_moe-wide", "bert-wide", "t5-wide", "gpt2-wide"])
def test_memory_and_flops_are_what_allocate_predicts_after_profiling(name):
    training = Training(batch=4, length=LENGTH)
    found = profile(zoo.build(name, spread=None), samples(4, length=LENGTH), metrics=("fisher",))
    estimate = ll.estimate(configuration(name), training=training)
    assert estimate.step.inventory == found.inventory
    assert estimate.task == found.task
    assert estimate.step.activations.through == pytest.approx(found.activations.through, rel=1e-9)
    for rank in (1, 16):
        plan = ll.allocate(found, strategy="uniform", budget=f"params=r={rank}", training=training, methods="lora")
        row = estimate.row(rank)
        outside = rank * sum(module.in_features + module.out_features for module in found.inventory.outside)
        assert row.cost.params == plan.cost.params + outside, "plans leave frozen what lies outside of the layers"
        assert row.cost.memory == pytest.approx(plan.cost.memory, rel=0.01)
        assert row.cost.flops == pytest.approx(plan.cost.flops, rel=0.01)


def test_memory_is_what_allocate_predicts_in_bfloat16_too():
    import torch

    model = zoo.build("llama-wide", spread=None, dtype=torch.bfloat16)
    found = profile(model, samples(4, length=LENGTH), metrics=("fisher",))
    training = Training(batch=4, length=LENGTH, dtype="bfloat16")
    plan = ll.allocate(found, strategy="uniform", budget="params=r=8", training=training, methods="lora")
    estimate = ll.estimate(configuration("llama-wide"), training=training)
    assert estimate.row(8).cost.memory == pytest.approx(plan.cost.memory, rel=1e-6)


@pytest.mark.parametrize(("name", "parameters", "lora", "weights"), [
    ("llama-3.1-8b", 8_030_261_248, 41_943_040, 16_060_522_496),
    ("qwen3-30b-a3b", 30_532_122_624, 13_369_344, 61_064_245_248),
])  # fmt: skip
def test_large_models_are_counted_exactly_and_never_allocated(name, parameters, lora, weights):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = ll.estimate(CONFIGURATIONS / name, budget="memory=24GiB")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < 2**30, "weights of 16 and 61 GB were allocated, or some of them"
    assert found.parameters == parameters
    assert found.row(16).cost.params == lora
    assert found.parts["frozen weights"] == weights
    assert found.training.dtype == "bfloat16"
    assert not found.row(16).fits


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama-wide", "bert-classifier", "t5"])
def test_parts_are_all_of_the_memory(name, checkpointing):
    found = ll.estimate(configuration(name), training=Training(batch=3, length=8), checkpointing=checkpointing)
    for rank in (1, 7, None):
        parts = found.step.parts(rank)
        assert sum(parts.values()) == pytest.approx(found.step.cost(rank).memory, rel=1e-12)
        assert all(size >= 0 for size in parts.values())
    assert found.parts == found.step.parts(found.parts_rank)


def test_a_configuration_is_taken_as_an_object_or_from_a_directory_and_not_changed(tmp_path):
    config = configuration("llama")
    before = config.to_dict()
    config.save_pretrained(tmp_path)
    assert ll.estimate(config).rows == ll.estimate(str(tmp_path)).rows == ll.estimate(tmp_path).rows
    assert config.to_dict() == before


def test_only_ranks_that_some_module_can_have_are_told():
    ranks = [row.rank for row in ll.estimate(configuration("llama")).rows if row.weights == "float32"]
    assert ranks == [1, 2, 4, 8, 16, 32, None]  # the widest module is 32 by 97 or narrower


def test_weights_of_four_bits_take_less_and_nothing_else_does():
    found = ll.estimate(configuration("llama-wide"))
    linear = sum(module.in_features * module.out_features for module in found.step.inventory.linears())
    saved = found.row(8).cost.memory - found.row(8, PACKED).cost.memory
    assert saved == pytest.approx(linear * (4 - 0.5 - 4 / 64))
    assert found.row(8).cost.flops == found.row(8, PACKED).cost.flops


def test_full_fine_tuning_trains_all_parameters():
    found = ll.estimate(configuration("llama-wide"))
    assert found.row(None).cost.params == found.parameters
    assert found.row(None).cost.memory > found.row(8).cost.memory
    with pytest.raises(KeyError):
        found.row(3)


def test_budgets_are_amounts_shares_and_ranks():
    config = configuration("llama-wide")
    assert ll.estimate(config, budget="memory=100%").row(None).fits
    by_rank = ll.estimate(config, budget=("memory=r=4", "params=10M"))
    assert (by_rank.largest_rank, by_rank.row(4).fits, by_rank.row(8).fits) == (4, True, False)
    assert ll.estimate(config, budget="params=1").largest_rank == 0
    free = ll.estimate(config)
    assert (free.largest_rank, free.row(1).fits, free.advice) == (None, None, ())


def test_all_of_it_is_json():
    found = json.loads(json.dumps(ll.estimate(configuration("llama"), budget="memory=1MiB").to_json()))
    assert found["limits"] == {"memory": 2**20}
    assert found["rows"][0]["cost"]["params"] > 0
    assert "step" not in found


def test_what_the_configuration_says_and_the_estimate_leaves_out_is_told():
    config = configuration("llama-wide")
    longer = "the configuration has 128 positions; samples of 512 tokens are longer"
    packed = "the configuration says that its weights are packed; what is told here is of plain weights"
    assert ll.estimate(config).remarks == (longer,)
    config.architectures = ["LlamaModel"]
    assert ll.estimate(config, training=Training(length=64)).remarks == (
        "the configuration is of LlamaModel; what is told here is of LlamaForCausalLM",
    )
    config.architectures = None
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert ll.estimate(config, training=Training(length=64)).remarks == (packed,)
    (experts,) = ll.estimate(configuration("qwen3_moe-wide"), training=Training(length=64)).remarks
    assert experts == "4-bit weights leave stacked experts as they are, and LoRA here trains no experts"


def test_what_cannot_be_told_from_a_configuration_is_refused_in_a_line(tmp_path):
    with pytest.raises(BudgetError, match="latency is measured on a device"):
        ll.estimate(configuration("llama"), budget="latency=1ms")
    with pytest.raises(ModelError, match="512 tokens are longer than the 128 positions of BertForMaskedLM; give a"):
        ll.estimate(configuration("bert-wide"))
    with pytest.raises(ModelError, match="is for image-classification; what a model of images or sounds"):
        ll.estimate(configuration("vit"))
    with pytest.raises(ModelError, match="transformers has no model of clip for causal-lm"):
        ll.estimate(configuration("clip"))
    odd = configuration("llama", hidden_act="odd")
    with pytest.raises(ModelError, match="llama's configuration cannot be built for causal-lm from its configuration"):
        ll.estimate(odd)
    with pytest.raises(ModelError, match=r"JetMoeForCausalLM keeps while training does not follow from shapes alone"):
        ll.estimate(configuration("jetmoe"))
    with pytest.raises(ModelError, match="transformers has no model of llama for seq2seq-lm, so llama's configuration"):
        ll.estimate(configuration("llama"), task="seq2seq-lm")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config"}}))
    with pytest.raises(ModelError, match="brings Python files of its own"):
        ll.estimate(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        ll.estimate(tmp_path / "nothing")
