"""What is attached beside a module: it makes the parameters, and adds nothing at first."""

from typing import Any

import torch
from layerlens_core.plugin import Entry, ModelError, SideModule
from torch import nn


class Shift(SideModule):
    """Adds a vector b, zero at first, to the output [..., out_features] of its host."""

    child = "layerlens_example_name"
    places = (("out_features",),)
    adapter_layer_names = ("lora_shift",)

    def __init__(self, host: nn.Module, entry: Entry) -> None:
        super().__init__(host, entry)
        self.lora_shift = nn.ParameterDict()

    @classmethod
    def check(cls, host: nn.Module, name: str, entry: Entry) -> None:
        planned = entry.shape["out_features"]
        width = getattr(host, "out_features", getattr(host, "nf", planned))
        if width != planned:
            raise ModelError(f"the shift planned for {name} is {planned} wide, but that module gives {width}")

    @classmethod
    def parameters_of(cls, entry: Entry) -> int:
        return entry.shape["out_features"]

    def add(self, adapter: str, entry: Entry) -> None:
        self.lora_shift[adapter] = nn.Parameter(self.beside_host(torch.zeros(entry.shape["out_features"])))

    def connect(self) -> None:
        self.host.register_forward_hook(_shifted)

    def disconnect(self) -> None:
        hooks = self.host._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is _shifted]:
            del hooks[key]


def _shifted(host: nn.Module, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
    """The forward hook; a function of the module, so that a copy of the model runs its own vectors."""
    side = host._modules[Shift.child]
    assert isinstance(side, Shift)
    for adapter in side.running():
        output = output + side.lora_shift[adapter].to(output.dtype)
    return output
