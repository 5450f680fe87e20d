"""Task heads, which train in full beside the adapters: every arm has a copy of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.func import functional_call

from layerlens_core.comparison.stacked.methods.place import Pass
from layerlens_core.errors import ModelError


@frozen(eq=False)
class StackedHead:
    """A head that computes each arm's samples with that arm's weights. Samples lie along its first dimension.

    module: the head.
    parameters: by name within the head, of every arm, leaves that gather their gradients [K].
    running: for which arms.
    """

    module: nn.Module
    parameters: Mapping[str, list[Tensor]]
    running: Pass

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model runs this in place of the head inside."""
        forward = self.module.forward
        self.module.forward = lambda *args, **kwargs: self._run(forward, args, kwargs)
        try:
            yield
        finally:
            del self.module.forward

    def _run(self, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arms = range(self.running.arms.start, self.running.arms.stop)
        stacked = self.module.forward
        del self.module.forward  # while the head itself runs, with the weights of one arm after the other
        try:
            outputs = [
                functional_call(
                    self.module,
                    {name: of_arm[arm] for name, of_arm in self.parameters.items()},
                    tuple(self._of_arm(value, place) for value in args),
                    {name: self._of_arm(value, place) for name, value in kwargs.items()},
                )
                for place, arm in enumerate(arms)
            ]
        finally:
            self.module.forward = stacked
        if not all(isinstance(output, Tensor) for output in outputs):
            raise ModelError(f"the head {type(self.module).__name__} gives no tensor, so it cannot train stacked")
        return torch.cat(outputs)

    def _of_arm(self, value: Any, place: int) -> Any:
        """An argument's part that is one arm's samples; whatever is no batch is everyone's."""
        count, samples = self.running.count, self.running.samples
        if not isinstance(value, Tensor) or value.dim() == 0:
            return value
        if len(value) != count * samples:
            raise ModelError(
                f"the head {type(self.module).__name__} was given a tensor of shape {tuple(value.shape)}, in which "
                f"{count} arms of {samples} samples do not lie along the first dimension"
            )
        return value[place * samples : (place + 1) * samples]
