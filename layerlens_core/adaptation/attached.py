"""What a model was given: the LoRA layers, the side modules, and how much of it trains."""

from collections.abc import Collection, Iterator
from typing import Any

from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from layerlens_core.adaptation.side_module import SideModule


def adapted(base: nn.Module) -> Iterator[tuple[str, Any]]:
    """LoRA layers and side modules in a model, each with the name that it has in a plan.

    That is the name of the module that is wrapped, of the module beside which it stands, or of the stacked experts'
    parameter.
    """
    for name, module in base.named_modules():
        bare = bare_name(name)
        if isinstance(module, SideModule):
            yield bare.removesuffix(f".{module.child}"), module
        elif isinstance(module, LoraLayer):
            parameter = getattr(module, "parameter_name", None)
            yield f"{bare}.{parameter}" if parameter else bare, module


def bare_name(name: str) -> str:
    """A module's name as it was before PEFT wrapped modules around it."""
    return name.replace(".base_layer", "")


def ends_like(name: str, ends: Collection[str]) -> bool:
    """Whether a module's name is one of these, or ends with one of them by whole parts."""
    while name:
        if name in ends:
            return True
        _, _, name = name.partition(".")
    return False


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """PEFT's LoRA layers by the names that they have in a plan.

    model: with LoRA attached.
    """
    return {name: layer for name, layer in adapted(model.get_base_model()) if isinstance(layer, LoraLayer)}


def side_modules(model: PeftModel) -> dict[str, SideModule]:
    """Adapters, prefixes and their like by the name of the module beside which they stand."""
    return {name: layer for name, layer in adapted(model.get_base_model()) if isinstance(layer, SideModule)}


def trainable_parameters(model: PeftModel) -> tuple[int, int]:
    """Trainable parameters of the methods, and of the task heads beside them."""
    adapters = heads = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if ".modules_to_save." in name:
                heads += parameter.numel()
            else:
                adapters += parameter.numel()
    return adapters, heads
