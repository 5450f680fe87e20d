"""Profiling leaves no trace on a model, also when it fails."""

import pytest
import torch

import zoo
from layerlens_core.plugin.registry import default
from layerlens_core.profiling.profile import profile
from zoo.profiled import build, samples

METRICS = tuple(default().names("metric"))


def state(model):
    """Everything that profiling must leave alone."""
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "modules": {name: id(module) for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for part in before.keys() - {"weights", "gradients", "random"}:
        assert before[part] == after[part], part
    assert torch.equal(before["random"], after["random"])
    for part in ("weights", "gradients"):
        assert before[part].keys() == after[part].keys()
        for name, tensor in before[part].items():
            assert (tensor is None and after[part][name] is None) or torch.equal(tensor, after[part][name]), name


def odd_state(model):
    """A state that a careless reset would not reproduce."""
    model.train()
    next(model.children()).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 == 0)
        parameter.grad = torch.ones_like(parameter) if number % 5 == 0 else None
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_model_is_as_before(family, checkpointing):
    model = odd_state(build(family, torch.float32))
    if checkpointing:
        if not model.supports_gradient_checkpointing:
            pytest.skip(f"{family.name} has no gradient checkpointing")
        model.activation_checkpointing_enable()
    before = state(model)
    result = profile(model, samples(family, count=12), metrics=METRICS, micro_batch=4)
    assert {scores.metric for scores in result.scores} == set(METRICS)
    assert_same(before, state(model))


@pytest.mark.parametrize("metric", METRICS)
def test_the_model_is_as_before_after_an_exception(metric):
    family = zoo.find("bert-classifier")
    model = odd_state(build(family, torch.float32))
    before = state(model)

    class Stop(Exception):
        pass

    def stop(stage, done, total):
        if done >= 2:
            raise Stop

    with pytest.raises(Stop):
        profile(model, samples(family, count=12), metrics=(metric,), micro_batch=2, progress=stop)
    assert_same(before, state(model))
