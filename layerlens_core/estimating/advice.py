"""What else fits into a budget where uniform LoRA of a rank does not, the least change first."""

from collections.abc import Iterator

import attrs

from layerlens_core.allocation.budget import readable
from layerlens_core.estimating.estimated import Step, packed
from layerlens_core.values.costs import Cost, Limits

#: No less than this part of the samples' length is advised: what is cut off is not learned.
_SHORTEST = 4


def advise(step: Step, checkpointed: Step | None, rank: int, limits: Limits) -> tuple[str, ...]:
    """A line for each change that makes the rank fit; two at once only where no single one does.

    step: that does not fit.
    checkpointed: the same with gradient checkpointing; None where that is on already.
    rank: of uniform LoRA.
    limits: of the budget, with one on memory.
    """
    small = attrs.evolve(step, inventory=packed(step.inventory))
    smallest = attrs.evolve(checkpointed or step, inventory=small.inventory)
    plain = step.largest_batch(rank, limits)
    single = [
        *_smaller_batch(step, rank, plain),
        *_larger_than(plain, checkpointed, rank, limits, "--checkpointing, which computes layers twice"),
        *_shorter(step, rank, limits),
        *_larger_than(plain, small, rank, limits, "4-bit weights"),
        *_upper_layers(step, rank, limits),
    ]
    if together := single or list(_larger_than(0, smallest, rank, limits, "4-bit weights and --checkpointing")):
        return tuple(together)
    least = smallest.with_batch(1).cost(1).memory
    return (
        f"nothing here fits: rank 1 with one sample a step, 4-bit weights and --checkpointing takes "
        f"{readable('memory', least)}; take shorter samples, a larger device or several, or a smaller model",
    )


def _smaller_batch(step: Step, rank: int, found: int) -> Iterator[str]:
    """found: the largest batch that fits."""
    if found:
        memory = step.with_batch(found).cost(rank).memory
        yield (
            f"--batch-size {found}, with gradients accumulated to {step.training.batch} for the same updates: "
            f"{readable('memory', memory)}"
        )


def _larger_than(plain: int, step: Step | None, rank: int, limits: Limits, what: str) -> Iterator[str]:
    """A change by which more samples fit into a step, up to those that were asked for.

    plain: samples that fit without it.
    step: the way to train with it; None where it is no change.
    what: the change, in words.
    """
    found = 0 if step is None else min(step.largest_batch(rank, limits), step.training.batch)
    if step is not None and found > plain:
        fewer = f", with --batch-size {found}" if found < step.training.batch else ""
        yield f"{what}{fewer}: {readable('memory', step.with_batch(found).cost(rank).memory)}"


def _shorter(step: Step, rank: int, limits: Limits) -> Iterator[str]:
    """The longest samples that fit: memory is in proportion to tokens."""
    low, high = 0, step.training.length
    while low < high:
        middle = (low + high + 1) // 2
        fits = step.with_length(middle).cost(rank).memory <= limits.most("memory")
        low, high = (middle, high) if fits else (low, middle - 1)
    if low * _SHORTEST >= step.training.length:
        yield f"--length {low}, where samples may be cut: {readable('memory', step.with_length(low).cost(rank).memory)}"


def _upper_layers(step: Step, rank: int, limits: Limits) -> Iterator[str]:
    """The most of the upper layers that can be trained: what lies below keeps nothing."""
    layers = step.inventory.layers
    fitting = [depth for depth in range(1, len(layers)) if from_layer(step, rank, depth).within(limits)]
    if fitting:
        memory = from_layer(step, rank, fitting[0]).memory
        yield (
            f"only the upper {len(layers) - fitting[0]} of {len(layers)} layers, which 'layerlens plan --budget "
            f"memory=…' chooses by itself: {readable('memory', memory)}"
        )


def from_layer(step: Step, rank: int, depth: int) -> Cost:
    """What uniform LoRA on the linear modules of the layers from one on takes, of memory alone.

    step: the way to train.
    rank: of LoRA.
    depth: of the lowest layer that trains, 0 for the first.
    """
    training, kept, parameters = step.training, 0.0, 0
    for layer in step.inventory.layers[depth:]:
        kept += step.activations.adapted.get(layer.name, 0.0) + rank * len(layer.modules) * training.activation_bytes
        parameters += rank * sum(module.in_features + module.out_features for module in layer.modules)
    memory = step.references.depths[depth].memory + kept * training.tokens + parameters * training.bytes_per_parameter
    return Cost(params=parameters, memory=memory)
