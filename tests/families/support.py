"""Apply methods to a specimen and hold what comes of it to what was promised."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from attrs import evolve
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.adaptation.apply import apply
from layerlens_core.adaptation.attached import lora_layers, trainable_parameters
from layerlens_core.adaptation.config import Entry
from layerlens_core.adaptation.load import load
from layerlens_core.adaptation.provided import provided_side
from layerlens_core.plugin.registry import default
from layerlens_core.values.costs import Cost
from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Inventory, Layer
from layerlens_core.values.plan import Plan
from zoo.plans import plan_with
from zoo.tiny_model import TinyModel

#: Each method with the size at which it is tried.
SIZES = {"lora": 3, "adapter": 4, "prefix": 5, "lora-experts": 2}
Chosen = Mapping[str, tuple[str, int]]


def places(layer: Layer, method: str) -> list[str]:
    """Where in a layer a method would attach."""
    return [target.name for target in default().load("method", method).targets(layer)]


def each_kind_of_layer(inventory: Inventory, method: str) -> Chosen:
    """The method on one layer of every kind: of every list of layers, and there of every set of places."""
    kinds: dict[object, str] = {}
    for layer in inventory.layers:
        if found := places(layer, method):
            stack = layer.name.rpartition(".")[0]
            kinds.setdefault((stack, *(name.removeprefix(layer.name) for name in found)), layer.name)
    return dict.fromkeys(kinds.values(), (method, SIZES[method]))


def mixed(inventory: Inventory) -> Chosen:
    """Every layer with another method than the one before it, as far as its places allow; one has its experts tuned."""
    chosen: dict[str, tuple[str, int]] = {}
    for layer in inventory.layers:
        possible = [method for method in ("lora-experts", "prefix", "adapter", "lora") if places(layer, method)]
        if "lora-experts" in possible and any(method == "lora-experts" for method, _ in chosen.values()):
            possible.remove("lora-experts")
        if possible:
            method = possible[len(chosen) % len(possible)]
            chosen[layer.name] = (method, SIZES[method])
    return chosen


def outputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything that a model says."""
    said = model(**batch)
    return {name: value for name, value in said.items() if torch.is_tensor(value) and value.is_floating_point()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """To the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def check(specimen: TinyModel, base: PreTrainedModel, plan: Plan, directory: Path) -> str:
    """Apply a plan to a copy of a model, train, save, load and unload it. Returns the type it is saved as.

    Raises AssertionError with what is wrong.
    """
    batch, model = specimen.batch(), deepcopy(base)
    with torch.no_grad():
        before = outputs(base, batch)
        wrapped = apply(model, plan).eval()
        assert equal(outputs(wrapped, batch), before), "it does not start as the base model"
    assert trainable_parameters(wrapped) == (plan.parameters, plan.head_parameters)
    ours = _randomized(wrapped)
    _check_gradients(wrapped, ours, batch, before, specimen.unused)
    with torch.no_grad():
        after = outputs(wrapped, batch)
        with wrapped.disable_adapter():
            assert equal(outputs(wrapped, batch), before), "disabling does not give the base model back"
        wrapped.save_pretrained(directory)
        # Trainable, since matrix products choose their kernels by that too.
        loaded = load(deepcopy(base), directory, trainable=True).eval()
        assert equal(outputs(loaded, batch), after), "what was loaded is not what was saved"
        unloaded = wrapped.unload()
        assert equal(outputs(unloaded, batch), before), "unloading does not give the base model back"
    assert [name for name, _ in unloaded.named_modules()] == [name for name, _ in base.named_modules()]
    saved: str = json.loads((directory / "adapter_config.json").read_text())["peft_type"]
    return saved


def check_experts(wrapped: PeftModel, layer: Layer, rank: int) -> None:
    """Every stack of experts has an A and a B an expert: r·E·(in + out)."""
    made = lora_layers(wrapped)
    for weight in layer.experts:
        found = sum(p.numel() for n, p in made[weight.name].named_parameters() if n.startswith(("lora_A", "lora_B")))
        assert found == rank * weight.experts * (weight.in_features + weight.out_features), weight.name


def _randomized(wrapped: PeftModel) -> dict[str, nn.Parameter]:
    """Move all that the plan trains, of which some is zero at first; heads stay."""
    generator = torch.Generator().manual_seed(5)
    ours = {n: p for n, p in wrapped.named_parameters() if p.requires_grad and ".modules_to_save." not in n}
    with torch.no_grad():
        for parameter in ours.values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return ours


def _check_gradients(
    wrapped: PeftModel,
    ours: Mapping[str, nn.Parameter],
    batch: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    unused: tuple[str, ...],
) -> None:
    said = outputs(wrapped, batch)
    assert any(not torch.allclose(said[name], before[name], atol=1e-5) for name in before), "it changes nothing"
    generator = torch.Generator().manual_seed(6)
    weighted: Any = sum((v * torch.randn(v.shape, generator=generator)).sum() for v in said.values() if v.requires_grad)
    weighted.backward()
    needed = {name: p for name, p in ours.items() if not any(f"{end}." in name for end in unused)}
    missing = [name for name, parameter in needed.items() if parameter.grad is None]
    assert not missing, f"without a gradient: {missing}"
    zero = [name for name, parameter in needed.items() if not parameter.grad.any()]  # type: ignore[union-attr]
    assert not zero, f"with a gradient of zero: {zero}"


def refusing_prefix(model: PreTrainedModel, inventory: Inventory, layer: Layer) -> Plan:
    """A plan with a prefix on attentions that are no place for it, as an older LayerLens or a hand could write it."""
    sizes = {attention.name: SIZES["prefix"] for attention in layer.attentions}
    entries = {name: Entry(method="prefix", size=size, shape=inventory.shapes[name]) for name, size in sizes.items()}
    cost = Cost(params=sum(provided_side("prefix").parameters_of(name, entry) for name, entry in entries.items()))
    decision = Decision(
        unit=layer.name, method="prefix", size=SIZES["prefix"], sizes=sizes, utility=1.0, cost=cost, reason="by hand"
    )
    return evolve(plan_with(model, {}), decisions=(decision,), cost=cost)
