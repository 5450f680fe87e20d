"""Cores on every family: they start as the base model, train alone, and are a LoRA to everyone else."""

import json
from copy import deepcopy

import pytest
import torch
from peft import PeftModel

from families import SPECIMENS, build
from families.support import equal, outputs, places
from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import trainable_parameters
from layerlens_core.adaptation.cores.subspaces import cores_of
from layerlens_core.adaptation.load import load
from layerlens_core.inspection.inspect import inspect
from zoo.subspaces import cores_of_size

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SIZE = 3


@pytest.mark.parametrize("name", SPECIMENS)
def test_cores_train_alone_and_are_saved_as_a_lora(name, tmp_path):
    specimen = SPECIMENS[name]
    base, batch = build(specimen.row), specimen.batch()
    chosen = chosen_for(inspect(base))
    if not chosen:
        pytest.skip("no linear module of a rank that a core wants")
    plan = cores_of_size(base, tmp_path / "run", chosen)
    with torch.no_grad():
        before = outputs(base, batch)
    wrapped = apply(deepcopy(base), plan, directions=tmp_path / "run").eval()
    with torch.no_grad():
        assert equal(outputs(wrapped, batch), before), "it does not start as the base model"
    assert trainable_parameters(wrapped) == (plan.parameters, plan.head_parameters)
    frozen = snapshot(wrapped)
    train(wrapped, batch, specimen.unused)
    assert equal(snapshot(wrapped), frozen), "something frozen has moved"
    with torch.no_grad():
        after = outputs(wrapped, batch)
        assert any(not torch.equal(after[key], before[key]) for key in after)
        wrapped.save_pretrained(tmp_path / "lora")
        kind = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["peft_type"]
        loaded = plain(base, tmp_path / "lora") if kind == "LORA" else load(deepcopy(base), tmp_path / "lora")
        assert_near(outputs(loaded.eval(), batch), after)
        wrapped.merge_adapter()
        assert_near(outputs(wrapped, batch), after)
        wrapped.unmerge_adapter()
        assert_near(outputs(wrapped, batch), after)
        assert_near(outputs(wrapped.unload(), batch), before)


def chosen_for(inventory):
    """Cores on the first layer of every list of layers that takes one."""
    found = {}
    for layer in inventory.layers:
        if places(layer, "core"):
            found.setdefault(layer.name.rpartition(".")[0], layer.name)
    return dict.fromkeys(found.values(), ("core", SIZE))


def plain(base, directory):
    """What PEFT makes of it."""
    return PeftModel.from_pretrained(deepcopy(base), directory)


def snapshot(wrapped):
    """Everything that does not train, U and V among it."""
    own = [*wrapped.named_parameters(), *wrapped.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in own if not tensor.requires_grad}


def train(wrapped, batch, unused):
    """Two steps on the outputs, whatever the task's loss is; heads as well. R is zero in the first one."""
    cores = cores_of(wrapped)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.05)
    for step in range(2):
        said = outputs(wrapped, batch)
        generator = torch.Generator().manual_seed(step)
        loss = sum((v * torch.randn(v.shape, generator=generator)).sum() for v in said.values() if v.requires_grad)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, core in cores.items():
        if not any(name.endswith(end) or f"{end}." in name for end in unused):
            assert core.grad is not None, f"{name} gets no gradient"
            assert core.grad.any(), f"{name} gets a gradient of zero"


def assert_near(one, other):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=2e-4, atol=2e-4)
