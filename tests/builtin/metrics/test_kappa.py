"""1/κ, against numpy's condition numbers and the order in which PEFT picks modules."""

import numpy as np
import pytest
import torch
from peft.helpers import KappaTuneSelector

import zoo
from layerlens_builtin.metrics.kappa import evenness, score
from zoo.profiled import active_profile


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_it_is_one_over_the_condition_number(name):
    profile = active_profile(zoo.find(name), samples=())
    found = score(profile)
    assert list(found) == list(profile.modules)
    for module in profile.modules:
        weight = profile.model.get_submodule(module).weight.detach().numpy()
        assert found[module] == pytest.approx(1 / np.linalg.cond(weight), rel=1e-5)


def test_modules_come_in_the_order_that_peft_picks_them_in():
    profile = active_profile(zoo.find("llama"), dtype=torch.float32)
    found = score(profile)
    picked = KappaTuneSelector(profile.model, show_progress=False).get_best_targets(top_p=1.0)
    theirs = [name for name in picked if name in found]
    assert sorted(found, key=lambda name: -found[name]) == theirs
    kappas = KappaTuneSelector(profile.model, show_progress=False)
    kappas._compute_kappas()
    for name, value in found.items():
        assert 1 / value == pytest.approx(kappas._condition_numbers[name], rel=1e-3)


def test_singular_weights_are_worth_nothing_and_even_ones_most():
    assert evenness(torch.tensor([3.0, 3.0])) == pytest.approx(1.0)
    assert evenness(torch.tensor([1.0, 0.0])) == pytest.approx(1e-8)
    assert evenness(torch.zeros(2)) == 0.0
