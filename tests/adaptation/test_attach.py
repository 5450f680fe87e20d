"""LoRA for a while leaves nothing behind on the model, also where something fails."""

import pytest
import torch
import transformers

import zoo
from adaptation.applied import APPLIED, ranks_of, scales_of
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attach import attach_lora, temporary_lora
from layerlens_core.adaptation.attached import trainable_parameters
from zoo.plans import mixed_ranks, plan_of
from zoo.probing import logits, odd_state, perturb, snapshot

pytestmark = [
    # Of PEFT, where a test calls it itself; that `apply` is silent is tested below.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", APPLIED)
def test_temporary_lora_leaves_nothing_behind(name, checkpointing):
    family = zoo.find(name)
    model = odd_state(family.build())
    if checkpointing:
        if not model.supports_gradient_checkpointing:
            pytest.skip(f"{name} has no gradient checkpointing")
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()  # which PEFT will do again
    ranks, heads = mixed_ranks(model), [head.name for head in family.expected.heads]
    before = snapshot(model)
    state = torch.get_rng_state()
    with temporary_lora(model, ranks, scale=3, heads=heads) as tuned:
        assert ranks_of(tuned) == ranks
        assert set(scales_of(tuned).values()) == {3.0}
        assert trainable_parameters(tuned)[1] == sum(head.parameters for head in family.expected.heads)
        optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
        tuned(**family.inputs(labels=True)).loss.backward()
        optimizer.step()
    torch.set_rng_state(state)  # drawing is the caller's to undo
    assert snapshot(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_temporary_lora_leaves_nothing_behind_after_an_exception():
    family = zoo.find("distilbert-classifier")
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


def test_temporary_lora_leaves_nothing_behind_where_peft_stops_halfway():
    model = zoo.build("llama")
    before = snapshot(model)
    state = torch.get_rng_state()
    ranks = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.self_attn.q_proj": 0}
    attached = []
    with pytest.raises(ValueError, match="`r` should be a positive"), temporary_lora(model, ranks, scale=2) as tuned:
        attached.append(tuned)
    torch.set_rng_state(state)
    assert not attached
    assert snapshot(model) == before


def test_temporary_lora_can_be_used_again_and_then_applied():
    family = zoo.find("bert-classifier")
    model = family.build()
    ranks = mixed_ranks(model)
    before = logits(model, family)
    for _ in range(2):
        with temporary_lora(model, ranks, scale=2, heads=["classifier"]) as tuned:
            perturb(tuned)
            assert not torch.allclose(logits(model, family), before)
        assert torch.equal(logits(model, family), before)
    assert ranks_of(apply(model, plan_of(model, ranks))) == ranks


def test_attaching_names_the_base_model(tmp_path):
    zoo.build("llama").save_pretrained(tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    wrapped = attach_lora(model, mixed_ranks(model), scale=2)
    assert wrapped.peft_config["default"].base_model_name_or_path == str(tmp_path)
