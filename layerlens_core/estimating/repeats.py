"""Layers that repeat one another, of which a forward pass of shapes needs to run three: the first two and the last.

A layer between like neighbours keeps what the second of them keeps, so it hands on that one's output instead of being
run. What layers share (masks, positions, one another's outputs) is still counted for the last that keeps it, as the
last is run.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.inspection.accessors import text_config
from layerlens_core.values.inventory import Inventory

#: Attributes by which like layers differ.
_NUMBERS = frozenset({"layer_idx", "layer_id", "layer_number", "layer_index"})
_FIRST = 2


@contextmanager
def shortened(model: PreTrainedModel, inventory: Inventory) -> Iterator[Mapping[str, str]]:
    """Run no more than three of like layers in a row inside. Gives the layer that stands for each that is not run.

    model: it is as before afterwards.
    inventory: of the model.
    """
    stands_for: dict[str, str] = {}
    handles, replaced = [], []
    outputs: dict[str, Any] = {}
    for like in _runs(model, [layer.name for layer in inventory.layers]):
        second = like[_FIRST - 1]
        handles.append(model.get_submodule(second).register_forward_hook(_noting(outputs, second)))
        for name in like[_FIRST:-1]:
            stands_for[name] = second
            replaced.append(layer := model.get_submodule(name))
            layer.forward = _handing_on(outputs, second)
    try:
        yield stands_for
    finally:
        for handle in handles:
            handle.remove()
        for layer in replaced:
            del layer.forward  # the class's own shows again


def _runs(model: PreTrainedModel, names: Sequence[str]) -> Iterator[list[str]]:
    """Like layers in a row, where they are enough for some not to be run."""
    kinds = getattr(text_config(model), "layer_types", None)
    listed = kinds if isinstance(kinds, (list, tuple)) and len(kinds) == len(names) else [None] * len(names)

    def key(place: int) -> Hashable:
        parent = names[place].rpartition(".")[0]
        return parent, listed[place], _likeness(model.get_submodule(names[place]))

    for _, places in groupby(range(len(names)), key):
        like = [names[place] for place in places]
        if len(like) > _FIRST + 1:
            yield like


def _likeness(layer: nn.Module) -> Hashable:
    """Equal for layers that compute alike: classes, shapes and settings of all modules in them."""
    return tuple(
        (name, type(module), tuple(_settings(module)), tuple(_shapes(module))) for name, module in layer.named_modules()
    )


def _settings(module: nn.Module) -> Iterator[Hashable]:
    for name, value in vars(module).items():
        if not name.startswith("_") and name not in _NUMBERS and isinstance(value, (bool, int, float, str, tuple)):
            yield name, repr(value)


def _shapes(module: nn.Module) -> Iterator[Hashable]:
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        yield name, tuple(tensor.shape) if isinstance(tensor, Tensor) else None


def _noting(outputs: dict[str, Any], name: str) -> Any:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        outputs[name] = output

    return hook


def _handing_on(outputs: Mapping[str, Any], name: str) -> Any:
    return lambda *_args, **_kwargs: outputs[name]
