"""An estimate as a value: what uniform LoRA of each rank and full fine-tuning take, and where the memory goes."""

import math
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import field, frozen

from layerlens_core.allocation.budget import References
from layerlens_core.allocation.flops import depth_costs, forward_flops
from layerlens_core.values.costs import OPTIMIZER_BYTES, Activations, Cost, Limits, Training
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task

#: Ranks of uniform LoRA in a table.
RANKS = tuple(2**power for power in range(10))
#: The precision that bitsandbytes packs the linear maps of layers into.
PACKED = "nf4"
#: Bytes of a weight and of its gradient, in fp32.
_FP32 = 4


@frozen(kw_only=True)
class Step:
    """One way to train a model, and all that its cost follows from.

    inventory: of the model; as it is packed, where it is.
    training: the step, with its dtype.
    activations: what the forward pass keeps, with gradient checkpointing or without.
    kinds: by kind of module, bytes a token that layers keep where gradients only pass through.
    """

    inventory: Inventory
    training: Training
    activations: Activations
    kinds: Mapping[str, float]

    @property
    def references(self) -> References:
        """What uniform LoRA and full fine-tuning take: `layerlens_core.allocate`'s own formulas."""
        return References(
            inventory=self.inventory,
            training=self.training,
            depths=depth_costs(self.inventory, self.training, self.activations),
            adapted=self.activations.adapted,
        )

    def cost(self, rank: int | None) -> Cost:
        """Of uniform LoRA of this rank on all linear layers; None stands for full fine-tuning."""
        return self.references.whole if rank is None else self.references.uniform_lora(rank)

    def parts(self, rank: int | None) -> dict[str, float]:
        """Where the memory of `cost` goes, in bytes."""
        references, training, tokens = self.references, self.training, self.training.tokens
        heads = sum(head.parameters for head in self.inventory.heads)
        trained = heads + (self.inventory.parameters if rank is None else self.inventory.lora_parameters(rank))
        between = 0 if rank is None else rank * sum(1 for _ in self.inventory.linears()) * training.activation_bytes
        return {
            "frozen weights": references.depths[-1].memory - heads * training.bytes_per_parameter,
            "trained weights": float(trained * _FP32),
            "gradients": float(trained * _FP32),
            "optimizer states": float(trained * OPTIMIZER_BYTES[training.optimizer]),
            **{f"activations: {kind}": size * tokens for kind, size in self.kinds.items()},
            "activations: inputs of what trains": (sum(self.activations.adapted.values()) + between) * tokens,
            "logits and the backward pass's peak": self.activations.head * tokens,
        }

    def with_batch(self, batch: int) -> "Step":
        """The same step with other samples in it; what they keep a token stays."""
        return attrs.evolve(self, training=attrs.evolve(self.training, batch=batch))

    def with_length(self, length: int) -> "Step":
        """The same step with samples of another length; what they keep a token is taken to stay."""
        return attrs.evolve(self, training=attrs.evolve(self.training, length=length))

    def largest_batch(self, rank: int | None, limits: Limits) -> int:
        """The most samples of a step within bounds; 0 where there is no such step."""
        if limits.memory is None:
            return self.training.batch if self.cost(rank).within(limits) else 0
        one, two = (self.with_batch(batch).cost(rank) for batch in (1, 2))
        if not one.within(limits):
            return 0
        found = 1 + math.floor((limits.most("memory") - one.memory) / (two.memory - one.memory))
        return found if self.with_batch(found).cost(rank).within(limits) else found - 1

    def largest_rank(self, limits: Limits) -> int:
        """The largest rank of uniform LoRA within bounds, at most the full rank of the widest module; 0 where none."""
        low, high = 0, full_rank(self.inventory)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.cost(middle).within(limits) else (low, middle - 1)
        return low


@frozen(kw_only=True)
class Row:
    """One way to train, and what it takes.

    rank: of uniform LoRA on all linear layers; None for full fine-tuning.
    weights: how the frozen weights lie: the training's dtype, or ``nf4``.
    cost: parameters that train, FLOPs a token, and bytes of memory, as `Cost` has them.
    fits: whether it is within the budget; None where there is none.
    largest_batch: the most samples of a step that are; None where there is no budget.
    """

    rank: int | None
    weights: str
    cost: Cost
    fits: bool | None = None
    largest_batch: int | None = None


@frozen(kw_only=True)
class Estimate:
    """What training a model takes, predicted from its configuration.

    name: of the model, as it was given.
    architecture: name of the model's class.
    task: that its head is for.
    parameters: of the model.
    forward_flops: FLOPs a token of its forward pass.
    training: the step that costs are counted for, with its dtype.
    checkpointing: whether gradients are checkpointed.
    limits: what the budget amounts to.
    rows: uniform LoRA of each rank, on weights as they are and on packed ones, and full fine-tuning.
    parts: where the memory of LoRA of `parts_rank` goes, in bytes.
    parts_rank: the rank that `parts` and `advice` are told of.
    largest_rank: of uniform LoRA within the budget; None where there is none.
    advice: what else fits where that rank does not.
    remarks: what the estimate does not know.
    step: what all of it is computed from.
    """

    name: str
    architecture: str
    task: Task
    parameters: int
    forward_flops: float
    training: Training
    checkpointing: bool
    limits: Limits
    rows: tuple[Row, ...]
    parts: Mapping[str, float]
    parts_rank: int
    largest_rank: int | None
    advice: tuple[str, ...]
    remarks: tuple[str, ...]
    step: Step = field(repr=False)

    def row(self, rank: int | None, weights: str | None = None) -> Row:
        """The row of a rank, or of full fine-tuning (None).

        weights: as in `Row`; None takes the weights as they are.

        Raises ``KeyError`` where there is none.
        """
        wanted = weights or str(self.training.dtype)
        for row in self.rows:
            if (row.rank, row.weights) == (rank, wanted):
                return row
        raise KeyError((rank, wanted))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it; bytes, and FLOPs a token."""
        told = attrs.asdict(self, filter=lambda attribute, _value: attribute.name != "step")
        return {**told, "limits": self.limits.bounds}


def full_rank(inventory: Inventory) -> int:
    """The largest rank that any linear module's update can have."""
    return max((min(module.in_features, module.out_features) for module in inventory.linears()), default=1)


def packed(inventory: Inventory) -> Inventory:
    """The inventory of a model whose linear maps in layers bitsandbytes packs into 4 bits.

    That is half a byte a weight and an fp32 scale for every 64, without double quantisation. Embeddings, norms, heads
    and stacked experts stay as they are, as transformers leaves them.
    """
    sizes = [module.in_features * module.out_features for module in inventory.linears()]
    return attrs.evolve(
        inventory, packed=sum(sizes), packed_bytes=sum(math.ceil(size / 2) + 4 * math.ceil(size / 64) for size in sizes)
    )


def rows(step: Step, limits: Limits | None) -> tuple[Row, ...]:
    """A row for each rank that the model's modules can have, on both kinds of weights, and full fine-tuning.

    step: with weights as they are.
    limits: of the budget; None where there is none.
    """
    most = full_rank(step.inventory)
    ranks = [rank for rank in RANKS if rank <= most]
    small = attrs.evolve(step, inventory=packed(step.inventory))
    dtype = str(step.training.dtype)
    asked: list[tuple[int | None, str, Step]] = [(rank, dtype, step) for rank in ranks]
    asked += [(rank, PACKED, small) for rank in ranks]
    asked.append((None, dtype, step))
    return tuple(_row(rank, weights, each, limits) for rank, weights, each in asked)


def _row(rank: int | None, weights: str, step: Step, limits: Limits | None) -> Row:
    cost = step.cost(rank)
    if limits is None:
        return Row(rank=rank, weights=weights, cost=cost)
    return Row(
        rank=rank,
        weights=weights,
        cost=cost,
        fits=cost.within(limits),
        largest_batch=step.largest_batch(rank, limits),
    )


def flops_of_forward(step: Step) -> float:
    """FLOPs a token of the model's forward pass."""
    return forward_flops(step.inventory, step.training.length)
