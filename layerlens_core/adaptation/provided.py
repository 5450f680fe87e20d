"""What plugins provide to attach, with each call to it guarded (`layerlens_core.plugin.guard`)."""

from attrs import frozen
from torch import nn

from layerlens_core.adaptation.config import Entry
from layerlens_core.adaptation.cores.form import LowRankForm
from layerlens_core.adaptation.side_module import SideModule
from layerlens_core.errors import ModelError, PlanError, PluginError
from layerlens_core.inspection.packed import saves_children
from layerlens_core.plugin.guard import Origin, blamed
from layerlens_core.plugin.registry import default


@frozen
class ProvidedSide:
    """What a method attaches, and who provides it.

    origin: whom an error is blamed on.
    module: the class that is attached.
    """

    origin: Origin
    module: type[SideModule]

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """See `SideModule`."""
        with blamed(self.origin):
            return self.module.places

    def check(self, host: nn.Module, name: str, entry: Entry) -> None:
        """See `SideModule.check`."""
        with blamed(self.origin, on=name):
            self.module.check(host, name, entry)
        if not saves_children(host):
            raise ModelError(
                f"{name} cannot take {entry.method}: its class {type(host).__name__} saves its own weights alone, so "
                "that what is attached would be lost; plan again on this model"
            )

    def attach(self, host: nn.Module, name: str, adapter: str, entry: Entry) -> None:
        """See `SideModule.attach`."""
        with blamed(self.origin, on=name):
            self.module.attach(host, name, adapter, entry)

    def parameters_of(self, name: str, entry: Entry) -> int:
        """See `SideModule.parameters_of`.

        name: of the module at hand.
        entry: what is attached there.
        """
        with blamed(self.origin, on=name):
            return self.module.parameters_of(entry)


def provided_side(method: str) -> ProvidedSide:
    """The side module of a method.

    Raises `PluginError` where nothing provides the method, or where its module cannot be loaded or is no `SideModule`,
    and `PlanError` where its provider names no module.
    """
    provider, origin = default().get("method", method), default().origin("method", method)
    if provider.module is None:
        raise PlanError(f"the method {method!r} cannot be applied: its provider names no module that computes it")
    with blamed(origin, does="failed to load its module"):
        module = provider.module()
    if not (isinstance(module, type) and issubclass(module, SideModule)):
        raise PluginError(f"{origin} must give a class of SideModule as its module, but gives {module!r}")
    return ProvidedSide(origin, module)


def provided_form(method: str) -> type[LowRankForm]:
    """What a method puts in the place of LoRA's A and B. Raises `PluginError` where its module is no such class."""
    provider, origin = default().get("method", method), default().origin("method", method)
    with blamed(origin, does="failed to load its module"):
        form = provider.module() if provider.module is not None else None
    if not (isinstance(form, type) and issubclass(form, LowRankForm)):
        raise PluginError(f"{origin} must give a class of LowRankForm as its module, but gives {form!r}")
    return form
