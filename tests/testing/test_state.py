"""Whatever a metric leaves changed in a model is noticed, and named."""

import random

import pytest
import torch

from layerlens_core.testing import tiny_model
from layerlens_core.testing.state import first_difference, state_of


def _freeze(model):
    model.lm_head.weight.requires_grad_(False)


def _give_gradient(model):
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)


def _move(model):
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-6


def _replace(model):
    model.model.norm = torch.nn.Identity()


def _add(model):
    model.model.more = torch.nn.Identity()


CHANGES = {
    "weights of lm_head.weight": _move,
    "requires_grad of lm_head.weight": _freeze,
    "gradients of lm_head.weight": _give_gradient,
    "training mode of model.norm": lambda model: model.model.norm.train(),
    "hooks of lm_head": lambda model: model.lm_head.register_forward_hook(print),
    "weights: model.norm.weight is new or gone": _replace,
    "training mode: model.more is new or gone": _add,
    "random state of torch": lambda model: torch.rand(1),
    "random state of random": lambda model: random.random(),
}


@pytest.mark.parametrize("difference", CHANGES)
def test_a_change_is_named(difference):
    model = tiny_model()
    before = state_of(model)
    assert first_difference(before, state_of(model)) is None
    CHANGES[difference](model)
    assert first_difference(before, state_of(model)) == difference
