"""Attentions, blocks and experts that a forward pass leaves out are no places for a method."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.check import check_gradients
from layerlens_core.allocation.allocate import allocate
from layerlens_core.allocation.budget import Budget
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.places import NEVER_CALLED, NOT_REACHED, Places
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, samples


class InVain(nn.Module):
    """Calls an attention, and leaves its output out."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention
        self.spare = deepcopy(attention)

    def forward(self, *args, **kwargs):
        self.spare(*args, **kwargs)
        return self.attention(*args, **kwargs)


def with_spare_attentions():
    """A Llama whose first layer has an attention that is never called, and whose second calls one in vain."""
    model = build(zoo.find("llama"))
    model.model.layers[0].spare = deepcopy(model.model.layers[0].self_attn)
    model.model.layers[1].self_attn = InVain(model.model.layers[1].self_attn)
    return model


def test_attentions_that_are_not_called_or_in_vain_are_no_places():
    model = with_spare_attentions()
    result = profile(model, samples(zoo.find("llama")), metrics=("fisher",))
    reasons = {skipped.name: skipped.reason for skipped in result.unscored}
    assert reasons["model.layers.0.spare"] == NEVER_CALLED
    assert reasons["model.layers.1.self_attn.spare"] == NOT_REACHED
    assert not {"model.layers.0.self_attn", "model.layers.1.self_attn.attention"} & reasons.keys()
    plan = allocate(result, budget=Budget(params="5%"), methods=("prefix",))
    placed = set(plan.sizes("prefix"))
    assert {"model.layers.0.self_attn", "model.layers.1.self_attn.attention"} <= placed
    assert not any("spare" in name for name in placed)
    batch = zoo.find("llama").inputs()
    check_gradients(apply(model.float(), plan), {**batch, "labels": batch["input_ids"]})


@pytest.mark.parametrize("name", ["llama", "mixtral", "t5", "bert-classifier", "gpt2", "jetmoe", "mamba"])
def test_what_is_called_is_a_place(name):
    family = zoo.find(name)
    model = family.build().requires_grad_(False)
    places = Places.of(inspect(model))
    with places.watched(model):
        places.trace(model(**family.inputs()).logits)
    assert places.left_out(()) == []
    assert not any(module._forward_hooks for module in model.modules())


def test_places_that_other_samples_call_stay():
    model = zoo.build("llava").requires_grad_(False)  # given text alone
    places = Places.of(inspect(model))
    with places.watched(model):
        places.trace(model(**zoo.find("llama").inputs()).logits)
    attention = "model.vision_tower.encoder.layers.0.self_attn"
    assert attention in {skipped.name for skipped in places.left_out(())}
    assert attention not in {skipped.name for skipped in places.left_out([f"{attention}.q_proj"])}


def test_outputs_are_the_models_own():
    model = zoo.build("mixtral")
    inputs = zoo.find("mixtral").inputs()
    places = Places.of(inspect(model))
    expected = model(**inputs).logits
    with places.watched(model):
        assert torch.equal(model(**inputs).logits, expected)
