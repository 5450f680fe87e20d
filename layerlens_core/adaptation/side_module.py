"""Side modules: what is attached beside a module of the model instead of around it.

PEFT's LoRA layers wrap a linear module. An adapter or a prefix leaves the module in its place, under its name, and
becomes its child; the model's names, and what other code expects of them, stay as they are.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Self, TypeVar

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from layerlens_core.adaptation.config import Entry

New = TypeVar("New", nn.Module, nn.Linear, torch.Tensor)


class SideModule(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """The base of what a `MethodProvider` gives as its ``module``: one instance beside each planned module.

    A subclass keeps its parameters in ``ModuleDict``s or ``ParameterDict``s by adapter name, and starts all their names
    with ``lora_``: PEFT loads nothing else.

    child: the name under which it is attached, in which ``lora_`` must not occur: PEFT passes over such names when it
        deletes an adapter.
    places: the kinds of places where it can stand, each by what its shape has to tell.
    adapter_layer_names: names of these ``ModuleDict``s and ``ParameterDict``s.
    """

    child: ClassVar[str]
    places: ClassVar[tuple[tuple[str, ...], ...]]
    adapter_layer_names: tuple[str, ...]
    # Properties of PEFT's.
    active_adapters: list[str]
    disable_adapters: bool

    def __init__(self, host: nn.Module, entry: Entry) -> None:
        super().__init__()
        #: Of the host, for messages.
        self.name = ""
        # In a tuple, since a module as an attribute would become a child of its own child.
        self._host = (host,)
        self.merged_adapters: list[str] = []

    @classmethod
    def attach(cls, host: nn.Module, name: str, adapter: str, entry: Entry) -> Self:
        """Put the adapter beside a module, the host.

        host: the module.
        name: of the host.
        adapter: name of the adapter.
        entry: what is attached.

        Raises `ModelError` where it does not belong there.
        """
        cls.check(host, name, entry)
        side = host._modules.get(cls.child)
        if side is None:
            side = cls(host, entry)
            side.name = name
            side.train(host.training)
            host.add_module(cls.child, side)
            side.connect()
        assert isinstance(side, cls)
        side.add(adapter, entry)
        return side

    def detach(self) -> None:
        """Leave the host as it was."""
        self.disconnect()
        del self.host._modules[self.child]

    @property
    def host(self) -> nn.Module:
        """The module beside which this one stands."""
        return self._host[0]

    def running(self) -> Iterator[str]:
        """The adapters that take part in the forward pass."""
        if not self.disable_adapters:
            for adapter in self.active_adapters:
                if self.has(adapter):
                    yield adapter

    def has(self, adapter: str) -> bool:
        """Whether it holds parameters of this adapter."""
        return adapter in self._modules[self.adapter_layer_names[0]]  # type: ignore[operator]

    @classmethod
    @abstractmethod
    def check(cls, host: nn.Module, name: str, entry: Entry) -> None:
        """Raise `ModelError` where the host is not what the entry was planned for; before anything is changed."""

    @abstractmethod
    def add(self, adapter: str, entry: Entry) -> None:
        """Make the parameters of an adapter, with which the module adds nothing at first."""

    @abstractmethod
    def connect(self) -> None:
        """Make the host run this module."""

    @abstractmethod
    def disconnect(self) -> None:
        """Undo `connect`."""

    @classmethod
    @abstractmethod
    def parameters_of(cls, entry: Entry) -> int:
        """How many parameters an adapter takes."""

    def beside_host(self, new: New) -> New:
        """A new tensor or module, on the device and in the dtype of the host's own floating-point weights.

        New parameters are drawn on the CPU, so that a seed gives the same ones whatever the device. Where PEFT makes
        empty ones on the meta device, to be loaded, they stay there.
        """
        if isinstance(new, nn.Module) and any(parameter.is_meta for parameter in new.parameters()):
            return new
        device, dtype = self._get_base_layer_device_and_dtype(self.host)
        return new.to(device=device, dtype=dtype)

    # What follows is PEFT's interface of a layer.

    def get_base_layer(self) -> nn.Module:
        return self.host

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
        own = {id(parameter) for parameter in self.parameters()}
        weights = (p for p in base_layer.parameters() if p.is_floating_point() and id(p) not in own)
        weight = next(weights, None)
        return (None, None) if weight is None else (weight.device, weight.dtype)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return False
