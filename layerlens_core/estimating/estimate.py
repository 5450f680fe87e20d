"""What training a model would take, answered from its configuration: no weights are loaded, and there is no data."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from layerlens_core.allocation.budget import Budget
from layerlens_core.errors import BudgetError, ModelError
from layerlens_core.estimating.advice import advise
from layerlens_core.estimating.estimated import Estimate, Step, flops_of_forward, full_rank, rows
from layerlens_core.estimating.passing import pass_shapes
from layerlens_core.estimating.weightless import Weightless, build
from layerlens_core.inspection.accessors import text_config
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import Kept
from layerlens_core.values.costs import Limits, Training
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task

if TYPE_CHECKING:
    from transformers.configuration_utils import PreTrainedConfig

#: The rank that parts and advice are told of, where the model's modules can have it.
TOLD_RANK = 8
#: The kind of all that layers keep with gradient checkpointing.
_INPUTS = "inputs of layers"


def estimate(
    model: "str | Path | PreTrainedConfig",
    *,
    budget: Budget | str | Iterable[str] = (),
    training: Training | None = None,
    checkpointing: bool = False,
    task: Task | None = None,
    trust_remote_code: bool = False,
) -> Estimate:
    """Predict parameters, FLOPs and memory of uniform LoRA at each rank, and of full fine-tuning.

    Memory follows `allocate`'s formulas. What the forward pass keeps is found by running it on shapes alone, as
    profiling finds it on values, with PyTorch's kernels for a CPU and no padding. Weights take no memory meanwhile.

    model: a local directory with a ``config.json``, a hub id, or a configuration of transformers.
    budget: hard bounds, as `allocate` takes them, but for latency.
    training: the step that FLOPs and memory are counted for; its dtype is by default the configuration's.
    checkpointing: whether gradients are checkpointed.
    task: which head the model gets; by default that of the configuration's class.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `ModelError` where the configuration cannot be read or built without weights or such files, and where the
    forward pass needs values; `BudgetError` for a budget that cannot be read, or one of latency, which is measured.
    """
    asked = Budget.of(budget)
    if asked.latency is not None:
        raise BudgetError("latency is measured on a device; profile with --latency, and give this budget to allocate")
    given = training or Training()
    built = build(model, task=task, dtype=given.dtype, trust_remote_code=trust_remote_code)
    inventory = inspect(built.model)
    step = attrs.evolve(given, dtype=built.dtype)
    remarks = _remarks(built, inventory, step)
    try:
        kept = pass_shapes(built.model, inventory, built.task, batch=step.batch, length=step.length)
    except ModelError as error:
        positions = _positions(built)
        if positions is None or step.length <= positions:
            raise
        raise ModelError(
            f"samples of {step.length} tokens are longer than the {positions} positions of {inventory.architecture}; "
            f"give a length of at most {positions}"
        ) from error
    return _told(model, built, inventory, kept, step, asked, checkpointing=checkpointing, remarks=remarks)


def _told(
    model: object,
    built: Weightless,
    inventory: Inventory,
    kept: Kept,
    training: Training,
    budget: Budget,
    *,
    checkpointing: bool,
    remarks: tuple[str, ...],
) -> Estimate:
    """What follows from an inventory and from what is kept."""
    kinds: dict[str, float] = {}
    for of_layer in kept.kinds.values():
        for kind, size in of_layer.items():
            kinds[kind] = kinds.get(kind, 0.0) + size
    plain = Step(inventory=inventory, training=training, activations=kept.plain, kinds=kinds)
    inputs = {_INPUTS: sum(kept.checkpointed.through.values())}
    checkpointed = attrs.evolve(plain, activations=kept.checkpointed, kinds=inputs)
    step = checkpointed if checkpointing else plain
    limits = budget.resolve(step.references) if budget.texts() else None
    rank = min(TOLD_RANK, full_rank(inventory))
    advice: tuple[str, ...] = ()
    if limits is not None and limits.memory is not None and step.cost(rank).memory > limits.most("memory"):
        advice = advise(step, None if checkpointing else checkpointed, rank, limits)
    return Estimate(
        name=str(model) if isinstance(model, (str, Path)) else inventory.model_type,
        architecture=inventory.architecture,
        task=built.task,
        parameters=inventory.parameters,
        forward_flops=flops_of_forward(step),
        training=training,
        checkpointing=checkpointing,
        limits=limits or Limits(),
        rows=rows(step, limits),
        parts=step.parts(rank),
        parts_rank=rank,
        largest_rank=None if limits is None else step.largest_rank(limits),
        advice=advice,
        remarks=remarks,
        step=step,
    )


def _positions(built: Weightless) -> int | None:
    """How many positions a configuration tells."""
    found = getattr(text_config(built.model), "max_position_embeddings", None)
    return found if isinstance(found, int) else None


def _remarks(built: Weightless, inventory: Inventory, training: Training) -> tuple[str, ...]:
    """What the estimate leaves out of what the configuration says."""
    found = []
    config = built.model.config
    named = config.architectures or ()
    if named and inventory.architecture not in named:
        found.append(f"the configuration is of {named[0]}; what is told here is of {inventory.architecture}")
    positions = _positions(built)
    if positions is not None and training.length > positions:
        found.append(f"the configuration has {positions} positions; samples of {training.length} tokens are longer")
    if getattr(config, "quantization_config", None) is not None:
        found.append("the configuration says that its weights are packed; what is told here is of plain weights")
    if inventory.experts:
        found.append("4-bit weights leave stacked experts as they are, and LoRA here trains no experts")
    return tuple(found)
