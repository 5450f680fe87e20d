"""Modules take turns as memory allows, and where it runs out all the same, more of them."""

from itertools import pairwise

import attrs
import pytest
import torch

import zoo
from layerlens_core.profiling.hooks import turns as module
from layerlens_core.profiling.hooks.gathered import mean_gradients
from layerlens_core.profiling.hooks.turns import LEAST, MOST, in_turns, room, turns
from zoo.profiled import active_profile


@pytest.fixture(scope="module")
def profile():
    return active_profile(zoo.find("llama"), count=4)


def sizes(profile):
    return {each.name: each.out_features * each.in_features for each in profile.inventory.modules}


@pytest.mark.parametrize("held", [1, 600, 2048, 5000, 2**31])
def test_no_turn_holds_more_than_it_may_unless_it_is_one_module(profile, held, monkeypatch):
    monkeypatch.setattr(module, "room", lambda device: held)
    found = turns(profile, lambda n_out, n_in: n_out * n_in)
    assert [name for names in found for name in names] == list(profile.modules)
    size = sizes(profile)
    assert all(len(names) == 1 or sum(size[name] for name in names) <= held for names in found)
    for names, after in pairwise(found):
        assert sum(size[name] for name in names) + size[after[0]] > held, "the next module would have fitted"


def test_every_device_has_room_of_its_own(profile, monkeypatch):
    """Two devices with room for one module each take two modules in a turn; the number of modules is odd."""
    devices = {name: torch.device("cpu" if number % 2 else "meta") for number, name in enumerate(profile.modules)}
    by_module = {profile.model.get_submodule(name): device for name, device in devices.items()}
    monkeypatch.setattr(module, "weight_device", lambda linear, model: by_module[linear])
    monkeypatch.setattr(module, "room", lambda device: 1)
    assert [len(names) for names in turns(profile, lambda n_out, n_in: 1)] == [2] * (len(by_module) // 2) + [1]


@pytest.mark.parametrize(
    ("device", "free", "held"),
    [
        ("cuda", 80, 40),
        ("cpu", 0, LEAST),
        ("cpu", 4 * LEAST + 8, LEAST + 2),
        ("cpu", 2**50, MOST),
    ],
)
def test_room_is_a_share_of_what_is_free_and_on_a_cpu_bounded(device, free, held, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: free)
    assert room(torch.device(device)) == held


def test_where_memory_runs_out_turns_are_halved_and_then_micro_batches(profile):
    """Memory for one module and one sample: all the same every module is gathered, once and in order."""
    tried = []

    def gather(names, micro_batch, report):
        tried.append((len(names), micro_batch))
        if len(names) > 1 or micro_batch > 1:
            raise torch.OutOfMemoryError("no more")
        report(4)
        return {name: name.upper() for name in names}

    reports = []
    given = attrs.evolve(profile, progress=lambda done, total: reports.append((done, total)))
    found = list(in_turns(given, lambda n_out, n_in: 1, 4, gather))
    assert found == [(name, name.upper()) for name in profile.modules]
    assert tried[0] == (len(profile.modules), 3)
    assert tried[-1] == (1, 1)
    assert [done for done, _ in reports] == [4 * (number + 1) for number in range(len(profile.modules))]
    assert reports[-1][0] == reports[-1][1]


def test_where_not_even_one_sample_and_module_fit_it_is_told(profile):
    def gather(names, micro_batch, report):
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        list(in_turns(profile, lambda n_out, n_in: 1, 4, gather))


def test_gradients_after_memory_ran_out_are_the_same(profile, monkeypatch):
    """It runs out in the middle of a pass, of which nothing may be left in the sums."""
    expected = dict(mean_gradients(profile))
    plain, calls = torch.autograd.backward, []

    def backward(losses):
        calls.append(losses)
        plain(losses)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(torch.autograd, "backward", backward)
    for name, gradient in mean_gradients(profile):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)
    assert len(calls) > 4
