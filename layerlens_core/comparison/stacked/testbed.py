"""What all arms of a comparison train and are judged on, and whether a model lets them share a batch."""

from collections.abc import Collection, Sequence

import torch
from attrs import frozen
from torch import nn
from transformers import PreTrainedModel

from layerlens_core.errors import DataError, ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.attribution.establish import Established, establish
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import vocabulary_head
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.samples.sample import Sample, collate, tokens
from layerlens_core.profiling.samples.tasks import count_labels, pad_token_id
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task

#: Lengths are padded to a multiple of this where layers are compiled, so that few lengths are.
_COMPILED = 32


@frozen(kw_only=True, eq=False)
class Testbed:
    """What all arms train and are judged on.

    model: frozen, in evaluation mode: its dropout is off, so that arms differ by nothing but themselves.
    inventory: of the model.
    task: which loss is computed.
    training: samples with labels.
    held_out: samples with labels, to be judged on.
    established: how samples go together in this model.
    head: computes logits at labelled positions alone; None computes all.
    layers: to compile.
    multiple: lengths are padded to a multiple of this, where padding is inert.
    """

    model: PreTrainedModel
    inventory: Inventory
    task: Task
    training: Sequence[Sample]
    held_out: Sequence[Sample]
    established: Established
    head: VocabularyHead | None = None
    layers: Collection[str] = ()
    multiple: int = 1

    @property
    def labels(self) -> tuple[int, ...]:
        """Labelled terms of each held-out sample."""
        return tuple(count_labels(sample, self.task) for sample in self.held_out)


def prepare_testbed(
    model: PreTrainedModel,
    task: Task,
    training: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    compile: bool = False,
) -> Testbed:
    """Find out how samples go together in a model, and leave the model as it was.

    model: without adapters.
    task: which loss is computed.
    training: to train on; those without labels are left out.
    held_out: to judge on; those without labels are left out.
    compile: compile what lies between the layers' linear modules.

    Raises `DataError` where no sample has a label, and `ModelError` for a model in float16.
    """
    if model.dtype == torch.float16:
        raise ModelError("in float16 small gradients vanish; load the model in bfloat16 or float32 (--dtype)")
    training, held_out = (
        [sample for sample in part if count_labels(sample, task) > 0] for part in (training, held_out)
    )
    if not training or not held_out:
        raise DataError(f"no {'held-out' if training else 'training'} sample has a label, so nothing can be compared")
    inventory = inspect(model)
    within_heads = (name for head in inventory.heads for name in linears_in(model, head.name))
    with untouched(model):
        one = on(input_device(model), collate([max(training, key=tokens)], pad_token_id(model, task, 1)))
        head = vocabulary_head(model, one, task)
        names = [*(module.name for module in inventory.linears()), *within_heads]
        established = establish(model, names, training, task, head)
    return Testbed(
        model=model,
        inventory=inventory,
        task=task,
        training=training,
        held_out=held_out,
        established=established,
        head=head,
        layers=tuple(layer.name for layer in inventory.layers) if compile else (),
        multiple=_COMPILED if compile and established.company == "padded" else 1,
    )


def linears_in(model: nn.Module, head: str) -> list[str]:
    """Names of a head's linear modules."""
    return [
        name
        for name, module in model.named_modules()
        if f"{name}.".startswith(f"{head}.") and isinstance(module, nn.Linear)
    ]
