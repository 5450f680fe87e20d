"""Inputs that several modules share (q, k and v; gate and up), prepared once within one backward pass."""

from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.products import Rows

#: How many inputs are remembered. Those who share one come close together; layers that run attention and feed-forward
#: side by side have another module between them.
REMEMBERED = 2


@frozen(eq=False)
class _Known:
    key: tuple[object, ...]
    tensor: Tensor
    rows: Rows


@define(eq=False)
class SharedInputs:
    """The last few inputs of a backward pass, with the `Rows` made from them.

    Two tensors are the same where they look at the same memory in the same way and it was not written to in between.
    An address alone would not tell: memory is freed and used again during recomputation, and a stale entry would
    match. So every entry keeps its tensor alive, and its memory cannot be anybody else's.

    made: how many `Rows` were made, and not found.
    """

    made: int = 0
    _known: list[_Known] = field(factory=list)

    def find(self, tensor: Tensor) -> Rows | None:
        """The rows made from this very input, if they are remembered."""
        key = _key(tensor)
        return next((known.rows for known in self._known if known.key == key), None)

    def remember(self, tensor: Tensor, rows: Rows) -> Rows:
        """Keep the rows made from an input, in place of the oldest."""
        self.made += 1
        self._known = [*self._known, _Known(_key(tensor), tensor, rows)][-REMEMBERED:]
        return rows

    def forget(self) -> None:
        """The backward pass is over."""
        self._known = []


def _key(tensor: Tensor) -> tuple[object, ...]:
    return (
        tensor.device, tensor.data_ptr(), tensor._version, tensor.dtype, tensor.shape, tensor.stride(),
    )  # fmt: skip
