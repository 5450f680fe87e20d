"""GoRA's importance, against the formula in float64, and beside its cheaper sibling."""

import pytest
import torch

import zoo
from layerlens_builtin.metrics.gora import score
from layerlens_core.profiling.profile import profile
from zoo.profiled import PROFILED, active_profile, build, reference, samples


@pytest.mark.parametrize("name", PROFILED)
def test_it_is_the_mean_of_weights_times_mean_gradients(name):
    given = active_profile(zoo.find(name))
    found = score(given)
    truth = reference(given.model, list(given.modules), list(given.samples))
    for module in given.inventory.modules:
        weight = given.model.get_submodule(module.name).weight.detach()
        weight = weight.T if module.kind == "conv1d" else weight
        mean = truth[module.name].mean(dim=0)
        total = sum(abs(float(w) * float(g)) for w, g in zip(weight.flatten(), mean.flatten(), strict=True))
        assert found[module.name] == pytest.approx(total / (module.in_features * module.out_features), rel=1e-9)


def test_samples_that_cancel_count_for_weight_gradient_and_not_here():
    """Groups of two give mean |W ⊙ ḡ|, which no mean over more samples exceeds."""
    family = zoo.find("llama")
    run = profile(build(family), samples(family, count=8), metrics=["weight_gradient", "gora"])
    groups, whole = run.scores
    assert all(whole.values[name] < groups.values[name] for name in groups.values)
    one = profile(build(family), samples(family, count=2), metrics=["weight_gradient", "gora"])
    groups, whole = one.scores
    assert whole.values == pytest.approx(groups.values, rel=1e-6)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_in_fewer_bits_it_is_nearly_the_same(dtype, rel):
    given = active_profile(zoo.find("llama"))
    exact = score(given)
    given.model.to(dtype)
    assert score(given) == pytest.approx(exact, rel=rel)
