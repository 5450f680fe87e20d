"""A method for LayerLens: a trained vector that is added to what linear modules give."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from layerlens_core.plugin import Method, MethodProvider, hookimpl

if TYPE_CHECKING:
    from layerlens_core.plugin import SideModule


def _load() -> Method:
    from layerlens_plugin_example_name.places import METHOD

    return METHOD


def _module() -> "type[SideModule]":
    from layerlens_plugin_example_name.side import Shift

    return Shift


@hookimpl
def layerlens_methods() -> Iterable[MethodProvider]:
    yield MethodProvider(
        name="example-name",
        summary="a trained vector, added to the output of every linear module (BitFit)",
        capacity=5,
        applicable=True,
        default=False,
        load=_load,
        module=_module,
    )
