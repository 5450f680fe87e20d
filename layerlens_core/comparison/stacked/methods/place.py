"""A place of the model at which arms of a block have a method: what every arm's rows get added there, and nothing else.

Every arm has B samples of the batch, and it is known which rows of a module's tensors are theirs
(`layerlens_core.profiling.attribution`). A method's tensors are padded to the largest arm's with zeros, with which they
add nothing and get no gradient; so an arm without the method at a place is one whose tensors are all padding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.comparison.stacked.testbed import Testbed
from layerlens_core.errors import ModelError
from layerlens_core.profiling.attribution.layout import Layout

#: Sizes are rounded up to this on a GPU, whose matrix units want it.
_ALIGNED = 8


@define(eq=False)
class Pass:
    """Which arms the model is running for, and how many samples each has in the batch.

    arms: a range of them.
    samples: of each.
    """

    arms: slice = slice(0, 0)
    samples: int = 0

    @property
    def count(self) -> int:
        """How many arms."""
        count: int = self.arms.stop - self.arms.start
        return count


@frozen(eq=False, kw_only=True)
class Place(ABC):
    """One module's method in every arm. A subclass is a method.

    name: of the module.
    shape: of the place, as the inventory has it.
    tensors: of every arm [K, …] by the names that they have in what `apply` attaches (`shapes`), padded with zeros.
    gradients: likewise; to which `receive` adds.
    sizes: of every arm, 0 where it lacks the method here.
    scale: α/r of LoRA.
    layouts: by number of dimensions, where the module keeps its samples.
    running: for which arms.
    having: which arms have the method here, as ones and zeros [K].
    """

    name: str
    shape: Mapping[str, int]
    tensors: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    sizes: Sequence[int]
    scale: float
    layouts: Mapping[int, Layout]
    running: Pass
    having: Tensor = field(init=False)

    @having.default
    def _having(self) -> Tensor:
        tensor = next(iter(self.tensors.values()))
        return torch.tensor([float(size > 0) for size in self.sizes]).to(tensor.device, tensor.dtype)

    @staticmethod
    @abstractmethod
    def shapes(size: int, shape: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
        """The shapes of an arm's tensors, by name.

        size: of the method.
        shape: of the place.
        """

    @staticmethod
    @abstractmethod
    def start(name: str, size: int, shape: Mapping[str, int], seed: int) -> Mapping[str, Tensor]:
        """Those of an arm's tensors that are not zero at first: of one seed the same noise, as far as sizes go.

        name: of the module.
        size: of the method.
        shape: of the place.
        seed: of the arm.
        """

    @classmethod
    def refusal(cls, testbed: Testbed, name: str) -> str | None:
        """Why arms at this module cannot share a batch; None where they can.

        testbed: whose model is trained.
        name: of the module.
        """
        established = testbed.established
        if (reason := established.reason(name)) is not None or not established.layouts(name):
            return f"{name}: {reason or 'where it keeps its samples is not known'}"
        return None

    @abstractmethod
    def add(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The output with what every arm adds to its rows, a new tensor.

        inputs: of which that is a function.
        output: of the module.
        """

    @abstractmethod
    def receive(self, inputs: Tensor, gradient: Tensor) -> Tensor | None:
        """Add this batch's part to the gradients, and give the derivative of what was added by the inputs.

        inputs: as in `add`.
        gradient: by the output.
        """

    @property
    def size(self) -> int:
        """The largest of the running arms."""
        size = max(self.sizes[self.running.arms], default=0)
        cpu = self.having.device.type == "cpu"
        return size if cpu else min(-(-size // _ALIGNED) * _ALIGNED, max(self.sizes))

    @property
    def dtype(self) -> torch.dtype:
        """In which the model computes."""
        return self.having.dtype

    def _by_arm(self, tensor: Tensor) -> Tensor:
        """A tensor [..., features] as [arms, rows of an arm, features]."""
        layout, arms = self._layout(tensor), self.running.count
        if layout.dim == 0 and layout.fold != "inner":
            return tensor.reshape(arms, -1, tensor.shape[-1])
        rows = layout.by_sample(tensor, arms * self.running.samples)
        if rows is None:
            raise ModelError(self._message(tensor))
        return rows.reshape(arms, -1, tensor.shape[-1])

    def _back(self, rows: Tensor, like: Tensor) -> Tensor:
        """What `_by_arm` gave, back in the places of a tensor."""
        layout = self._layout(like)
        if layout.dim == 0 and layout.fold != "inner":
            return rows.reshape(*like.shape[:-1], rows.shape[-1])
        samples = self.running.count * self.running.samples
        return layout.in_place(rows.reshape(samples, -1, rows.shape[-1]), tuple(like.shape[:-1]))

    def _layout(self, tensor: Tensor) -> Layout:
        layout = self.layouts.get(tensor.dim() - 1)
        if layout is None or not layout.fits(tuple(tensor.shape[:-1]), self.running.count * self.running.samples):
            raise ModelError(self._message(tensor))
        return layout

    def _message(self, tensor: Tensor) -> str:
        return (
            f"{self.name} was called with a tensor of shape {tuple(tensor.shape)}, in which the samples of "
            f"{self.running.count} arms of {self.running.samples} samples cannot be told apart"
        )
