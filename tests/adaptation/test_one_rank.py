"""Plans of LoRA are saved at one rank, so that servers apply what was trained, and loaded at their own."""

import json

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file

import zoo
from adaptation.applied import APPLIED, ranks_of, scales_of
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, trainable_parameters
from layerlens_core.adaptation.load import load
from layerlens_core.adaptation.one_rank import pad, rank_of, trim
from layerlens_core.inspection.inspect import inspect
from zoo.plans import mixed_ranks, plan_of, plan_with
from zoo.probing import logits, perturb

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


#: Sums of other lengths round otherwise; a wrong scale is off by a factor.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def saved(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    return config, load_file(folder / "adapter_model.safetensors")


@pytest.fixture(params=APPLIED)
def trained(request, tmp_path):
    """A family, its ranks, its model after training, and where that was saved."""
    family = zoo.find(request.param)
    model = family.build()
    ranks = mixed_ranks(model)
    assert len(set(ranks.values())) > 2
    wrapped = apply(model, plan_of(model, ranks, scale=3)).eval()
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path)
    return family, ranks, wrapped, tmp_path


def test_servers_apply_the_trained_scale(trained):
    """llama.cpp: lora_alpha / a tensor's own rank; vLLM: lora_alpha / r; SGLang: likewise, where these agree."""
    _, ranks, _, folder = trained
    config, tensors = saved(folder)
    assert (config["r"], config["lora_alpha"]) == (max(ranks.values()), 3 * max(ranks.values()))
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    # SGLang refuses a pattern.
    assert sorted(config["target_modules"]) == sorted(ranks)
    held = [v.shape[0] for k, v in tensors.items() if k.endswith("lora_A.weight")]
    held += [v.shape[1] for k, v in tensors.items() if k.endswith("lora_B.weight")]
    assert held == [config["r"]] * 2 * len(ranks)


def test_plain_peft_computes_the_same(trained):
    family, ranks, wrapped, folder = trained
    plain = PeftModel.from_pretrained(family.build(), folder).eval()
    assert ranks_of(plain) == dict.fromkeys(ranks, max(ranks.values()))
    assert set(scales_of(plain).values()) == {3.0}
    torch.testing.assert_close(logits(plain, family), logits(wrapped, family), **CLOSE)


def test_loading_undoes_the_padding_to_the_last_bit(trained, tmp_path):
    family, ranks, wrapped, folder = trained
    loaded = load(family.build(), folder, trainable=True).eval()
    assert ranks_of(loaded) == ranks
    assert trainable_parameters(loaded) == trainable_parameters(wrapped)
    assert torch.equal(logits(loaded, family), logits(wrapped, family))
    loaded.save_pretrained(tmp_path / "again")
    (config, tensors), (before, same) = saved(tmp_path / "again"), saved(folder)
    assert {k: v for k, v in config.items() if k != "target_modules"} == {
        k: v for k, v in before.items() if k != "target_modules"
    }
    assert all(torch.equal(tensors[name], same[name]) for name in tensors.keys() | same.keys())


def train(model, family, steps=5):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        loss = model.eval()(**family.inputs(labels=True)).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def test_what_is_padded_stays_zero_while_plain_peft_trains_it(trained):
    family, ranks, wrapped, folder = trained
    plain = PeftModel.from_pretrained(family.build(), folder, is_trainable=True)
    torch.testing.assert_close(train(plain, family), train(wrapped, family), **CLOSE)
    for name, layer in lora_layers(plain).items():
        assert rank_of(layer.lora_A["default"].weight, layer.lora_B["default"].weight) == ranks[name]


def test_a_trainer_goes_on_from_a_padded_checkpoint_as_if_it_had_not_stopped(tmp_path):
    family = zoo.find("llama")

    def trained(folder, resume=None):
        torch.manual_seed(7)
        model = family.build()
        wrapped = apply(model, plan_of(model, mixed_ranks(model)))
        batch = family.inputs(labels=True)
        arguments = transformers.TrainingArguments(
            output_dir=str(folder), max_steps=6, save_steps=3, learning_rate=1e-2, report_to=[], use_cpu=True,
            disable_tqdm=True, seed=3, remove_unused_columns=False, label_names=["labels"],
            per_device_train_batch_size=2,
        )  # fmt: skip
        rows = [{key: value[at % 2] for key, value in batch.items()} for at in range(8)]
        transformers.Trainer(model=wrapped, args=arguments, train_dataset=rows).train(resume_from_checkpoint=resume)
        return wrapped

    whole = trained(tmp_path / "whole")
    checkpoint = tmp_path / "whole" / "checkpoint-3"
    assert not saved(checkpoint)[0]["rank_pattern"]
    again = trained(tmp_path / "again", str(checkpoint))
    expected, state = whole.state_dict(), again.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_each_at_its_own_rank_if_asked(tmp_path):
    model = zoo.build("llama")
    ranks = mixed_ranks(model)
    wrapped = apply(model, plan_of(model, ranks), one_rank=False).eval()
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path)
    config, tensors = saved(tmp_path)
    assert config["rank_pattern"]
    assert {len(v) for k, v in tensors.items() if "lora_A" in k} == set(ranks.values())
    family = zoo.find("llama")
    for loaded in (load(family.build(), tmp_path), PeftModel.from_pretrained(family.build(), tmp_path)):
        assert ranks_of(loaded) == ranks
        assert torch.equal(logits(loaded.eval(), family), logits(wrapped, family))


def test_what_was_trained_at_planned_ranks_is_padded_afterwards(tmp_path):
    family = zoo.find("llama")
    model = family.build()
    wrapped = apply(model, plan_of(model, mixed_ranks(model)), one_rank=False).eval()
    perturb(wrapped)
    wrapped.save_pretrained(tmp_path / "start")
    # By a trainer that knows PEFT alone.
    plain = PeftModel.from_pretrained(family.build(), tmp_path / "start", is_trainable=True)
    train(plain, family)
    plain.save_pretrained(tmp_path / "trained")
    load(family.build(), tmp_path / "trained", one_rank=True).save_pretrained(tmp_path / "served")
    config, tensors = saved(tmp_path / "served")
    assert (config["r"], config["rank_pattern"]) == (5, {})
    assert {len(v) for k, v in tensors.items() if "lora_A" in k} == {5}
    loaded = load(family.build(), tmp_path / "served").eval()
    assert torch.equal(logits(loaded, family), logits(plain.eval(), family))


def test_a_list_of_names_that_would_take_others_gives_way_to_a_pattern(tmp_path):
    """A draft model, say, whose modules' names end like those of the model itself."""
    model = zoo.build("llama")
    model.draft = torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"layers": torch.nn.ModuleList()})})
    inner = torch.nn.ModuleDict({"self_attn": torch.nn.ModuleDict({"q_proj": torch.nn.Linear(32, 32)})})
    model.draft["model"]["layers"].append(inner)
    plan = plan_of(model, {"model.layers.0.self_attn.q_proj": 2, "model.layers.2.self_attn.q_proj": 3})
    apply(model, plan).save_pretrained(tmp_path)
    config, _ = saved(tmp_path)
    assert (config["r"], config["rank_pattern"]) == (3, {})
    assert config["target_modules"] == r"^model\.layers\.(?:0|2)\.self_attn\.q_proj$"


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "granitemoe", "gpt_oss"])
def test_mixtures_of_experts(name, tmp_path):
    """Linear modules are padded; stacked experts are left as they are, since PEFT's layout mixes ranks and experts."""
    family = zoo.find(name)
    for method, one in (("lora", True), ("lora-experts", False)):
        model = family.build()
        layers = [layer.name for layer in inspect(model).layers]
        wrapped = apply(model, plan_with(model, {layers[0]: (method, 3), layers[1]: (method, 2)})).eval()
        perturb(wrapped)
        wrapped.save_pretrained(tmp_path / method)
        config, _ = saved(tmp_path / method)
        assert bool(config["rank_pattern"]) is not one
        plain = PeftModel.from_pretrained(family.build(), tmp_path / method).eval()
        torch.testing.assert_close(logits(plain, family), logits(wrapped, family), **CLOSE)
        loaded = load(family.build(), tmp_path / method).eval()
        assert ranks_of(loaded) == ranks_of(wrapped)
        assert torch.equal(logits(loaded, family), logits(wrapped, family))


def test_only_zeros_are_cut_off():
    a, b = torch.ones(2, 3), torch.ones(4, 2)
    names = {"x.lora_A.default.weight": a, "x.lora_B.default.weight": b, "score.weight": torch.ones(1)}
    padded = pad(names, 5)
    assert [tuple(tensor.shape) for tensor in padded.values()] == [(5, 3), (4, 5), (1,)]
    shapes = {name: tensor.shape for name, tensor in names.items()}
    trimmed = trim(padded, shapes)
    assert all(torch.equal(trimmed[name], names[name]) for name in names)
    for name, at in (("x.lora_A.default.weight", (4, 0)), ("x.lora_B.default.weight", (0, 4))):
        other = {key: value.clone() for key, value in padded.items()}
        other[name][at] = 1e-30
        assert trim(other, shapes).keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in trim(other, shapes).items())
    assert rank_of(torch.zeros(4, 3), torch.zeros(2, 4)) == 4
