"""Inputs that several modules share (q, k and v; gate and up), prepared once within one pass."""

from typing import Generic, TypeVar

from attrs import define, field, frozen
from torch import Tensor

#: What is prepared of an input.
Prepared = TypeVar("Prepared")

#: How many inputs are remembered. Modules that share one run close to each other; in layers that run attention and
#: feed-forward side by side, a module of another input runs between them.
REMEMBERED = 2


@frozen(eq=False)
class _Known(Generic[Prepared]):
    key: tuple[object, ...]
    tensor: Tensor
    prepared: Prepared


@define(eq=False)
class SharedInputs(Generic[Prepared]):
    """The last few inputs of a pass, with what was prepared from them.

    Two tensors are the same where they view the same memory in the same way and it was not written to in between. An
    address alone would not tell: memory is freed and used again during recomputation, and a stale entry would match. So
    every entry keeps its tensor alive, so that no other tensor can get its memory.

    made: how often something had to be prepared because it was not found.
    """

    made: int = 0
    _known: list[_Known[Prepared]] = field(factory=list)

    def find(self, tensor: Tensor) -> Prepared | None:
        """What was prepared from this very input, if it is remembered."""
        key = _key(tensor)
        return next((known.prepared for known in self._known if known.key == key), None)

    def remember(self, tensor: Tensor, prepared: Prepared) -> Prepared:
        """Keep what was prepared from an input, in place of the oldest entry, and return it."""
        self.made += 1
        self._known = [*self._known, _Known(_key(tensor), tensor, prepared)][-REMEMBERED:]
        return prepared

    def forget(self) -> None:
        """The pass is over."""
        self._known = []


def _key(tensor: Tensor) -> tuple[object, ...]:
    return (
        tensor.device, tensor.data_ptr(), tensor._version, tensor.dtype, tensor.shape, tensor.stride(),
    )  # fmt: skip
