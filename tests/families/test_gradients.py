"""What is planned can train: with every place of a model planned, every parameter gets a gradient."""

from copy import deepcopy

import pytest
import torch

import zoo
from families.support import SIZES, outputs, places
from layerlens_core.adaptation.apply import apply
from layerlens_core.inspection.inspect import inspect
from zoo.plans import plan_with

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
#: Places that are offered and can never train, by model, as ends of their names.
NEVER = {
    # Its scores choose positions, by an argmax that no gradient passes.
    "deepseek_v32": ("indexer.wq_b", "indexer.wk", "indexer.weights_proj"),
}


def left_alone(model, plan, batch):
    """The planned parameters without a gradient, or with one of zero, after a step of all outputs."""
    wrapped = apply(model, plan).eval()
    ours = {n: p for n, p in wrapped.named_parameters() if p.requires_grad and ".modules_to_save." not in n}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ours.values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    said = outputs(wrapped, batch)
    sum((v * torch.randn(v.shape, generator=generator)).sum() for v in said.values() if v.requires_grad).backward()
    return [name for name, p in ours.items() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if not name.endswith(("-wide", "-words"))])
def test_every_planned_parameter_gets_a_gradient(name):
    specimen = zoo.find(name)
    base = specimen.build(shifts=0.05).requires_grad_(False)
    inventory = inspect(base)
    unreached = (*specimen.unused, *NEVER.get(name, ()))
    for method, size in SIZES.items():
        chosen = {layer.name: (method, size) for layer in inventory.layers if places(layer, method)}
        if chosen:
            missing = left_alone(deepcopy(base), plan_with(base, chosen), specimen.batch())
            assert [each for each in missing if not any(f"{end}." in each for end in unreached)] == [], method
