"""What an active metric gets, one that runs the model itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task
from layerlens_core.values.scores import Granularity

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

#: The attribute of an error that names the layer or module which was being scored (`ActiveProfile.scoring`).
UNIT_AT_HAND = "layerlens_unit"


@frozen(kw_only=True)
class ActiveProfile:
    """The model, and what to score it on. A metric must leave the model as it was (`untouched`).

    model: with frozen or trainable weights, in training or evaluation mode, as the caller has it.
    inventory: what the model is made of.
    scored: names of the layers to score.
    modules: names of the linear modules to score, in model order.
    granularity: which of the two the metric scores; modules where its provider has a ``reduction``.
    samples: without padding, one mapping of tensors each.
    task: which loss `per_sample_losses` computes.
    micro_batch: samples that fit into one forward and backward pass.
    seed: for whatever the metric draws.
    progress: call it with how much is done and how much there is.
    equal_lengths: padding changes what this model computes, so that only samples of one length may share a batch.
    """

    model: "PreTrainedModel"
    inventory: Inventory
    scored: tuple[str, ...]
    samples: "tuple[dict[str, Tensor], ...]"
    task: Task
    micro_batch: int
    seed: int
    progress: Callable[[int, int], None]
    modules: tuple[str, ...] = ()
    granularity: Granularity = "layer"
    equal_lengths: bool = False

    @property
    def units(self) -> tuple[str, ...]:
        """The names of all that the metric scores."""
        return self.scored if self.granularity == "layer" else self.modules

    @contextmanager
    def scoring(self, unit: str) -> Iterator[None]:
        """Around what a metric does for one layer or module, so that an error which it raises there names it.

        unit: its name.
        """
        try:
            yield
        except Exception as error:
            vars(error).setdefault(UNIT_AT_HAND, unit)
            raise
