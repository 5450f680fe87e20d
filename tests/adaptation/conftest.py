"""A model with every method on it, for the tests of this folder."""

import pytest

import zoo
from layerlens_core.adaptation.apply import apply
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with
from zoo.probing import perturb


@pytest.fixture
def family():
    """What the model of `mixed` is."""
    return zoo.find("llama")


@pytest.fixture
def mixed(family):
    """A model with LoRA, an adapter and a prefix, moved away from the base model."""
    model = family.build()
    names = [layer.name for layer in inspect(model).layers]
    plan = plan_with(model, {names[0]: ("lora", 3), names[1]: ("adapter", 4), names[2]: ("prefix", 5)})
    wrapped = apply(model, plan).eval()
    perturb(wrapped)
    return wrapped
