"""What a model was given: the LoRA layers, the side modules, and how much of it trains."""

from typing import Any

from peft import PeftModel
from peft.tuners.lora import LoraLayer

from layerlens_core.adaptation.side import SideModule


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """PEFT's LoRA layers by the name of the module, or of the stacked experts' parameter, that they adapt."""
    layers = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            bare, parameter = name.replace(".base_layer", ""), getattr(module, "parameter_name", None)
            layers[f"{bare}.{parameter}" if parameter else bare] = module
    return layers


def side_modules(model: PeftModel) -> dict[str, SideModule]:
    """Adapters, prefixes and their like by the name of the module beside which they stand."""
    return {
        name.replace(".base_layer", "").removesuffix(f".{module.child}"): module
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, SideModule)
    }


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
