"""A short warm-up of LoRA on every scored module, as the first steps of a real run, and what looks on while it trains.

AdamW without weight decay, gradients clipped to norm 1, a rate that rises linearly over the first steps. Samples go
through in batches of a fixed size, epoch after epoch in a new order; memory decides on micro-batches alone. Adapters
are PEFT's, in float32 also where the model computes in 16 bits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from attrs import evolve, frozen
from torch import Tensor

from layerlens_core.errors import DataError, NonFiniteError
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.model.devices import input_device
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.samples.sample import Sample, micro_batches
from layerlens_core.profiling.samples.tasks import count_labels, pad_token_id

#: By name of module, LoRA's A [rank, in] and B [out, rank].
Adapters = Mapping[str, tuple[Tensor, Tensor]]


@frozen(kw_only=True)
class WarmUpRecipe:
    """How a warm-up trains.

    rank: of every module, at most the smaller of its widths.
    scale: alpha over rank.
    batch: samples in a step.
    steps: at most.
    epochs: at most; few samples are not gone through more often.
    rate: the learning rate once it has risen.
    rising: steps over which it rises.
    clip: the largest norm of a step's gradient over all that trains.
    falling: from there the rate falls linearly, to 0 after the last step.
    """

    rank: int = 8
    scale: int = 2
    batch: int = 8
    steps: int = 35
    epochs: int = 4
    rate: float = 2e-3
    rising: int = 5
    clip: float = 1.0
    falling: bool = False

    def steps_on(self, samples: int) -> int:
        """How many steps so many samples are good for."""
        return min(self.steps, self.epochs * math.ceil(samples / self.batch))

    def rate_at(self, step: int, steps: int) -> float:
        """The rate of a step, counted from 0, of so many."""
        share = min(1.0, (step + 1) / self.rising)
        if self.falling and steps > self.rising:
            share = min(share, (steps - step) / (steps - self.rising))
        return self.rate * share


class Watch(Protocol):
    """What looks on while adapters train, and once they are trained."""

    def before(self, adapters: Adapters, loss: Tensor) -> None:
        """The step's gradients are there, not yet clipped, and nothing has moved; the loss is the batch's mean."""

    def after(self, adapters: Adapters) -> None:
        """The step is done; gradients are clipped."""

    def end(self, adapters: Adapters) -> None:
        """All steps are done, and the adapters are still there."""


def warm_up(
    context: ActiveProfile, samples: Sequence[Sample], recipe: WarmUpRecipe, watch: Watch, *, of: str,
    repeat: int = 0, repeats: int = 1, along: Mapping[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Train adapters on all modules that are scored, and heads beside them; all of it is gone afterwards.

    To be called inside of `untouched`.

    context: what a metric gets.
    samples: with labels.
    recipe: how to train.
    watch: looks on.
    of: what an error calls it, such as ``the warm-up``.
    repeat: the number of this warm-up, which with the context's seed draws adapters and batches.
    repeats: how many there are, for progress.
    along: by module, directions [k, in] that the first rows of A start along, the leading one first; the other rows,
        and those of other modules, are drawn.

    Raises `NonFiniteError` where it diverges.
    """
    # Of a room beside this one, which imports PEFT: that takes seconds, and only here it is needed.
    from layerlens_core.plugin import lora_layers, set_along, temporary_lora

    seed = context.seed * repeats + repeat
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    steps = recipe.steps_on(len(samples))
    heads = [head.name for head in context.inventory.heads]
    widths = {module.name: min(module.in_features, module.out_features) for module in context.inventory.modules}
    ranks = {name: min(recipe.rank, widths[name]) for name in context.modules}
    with temporary_lora(context.model, ranks, scale=recipe.scale, heads=heads) as tuned:
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        layers = lora_layers(tuned)
        adapters = {
            name: (layers[name].lora_A["default"].weight, layers[name].lora_B["default"].weight)
            for name in context.modules
        }
        for name, directions in (along or {}).items():
            if name in adapters:
                set_along(adapters[name][0].data, directions)
        optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
        for step, chosen in enumerate(drawn_batches(samples, recipe.batch, steps, generator)):
            optimizer.param_groups[0]["lr"] = recipe.rate_at(step, steps)
            context, loss = _gradients(context, chosen, optimizer, f"{of} is {{loss}} in step {step}")
            watch.before(adapters, loss)
            torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
            optimizer.step()
            watch.after(adapters)
            context.progress(steps * repeat + step + 1, steps * repeats)
        watch.end(adapters)


def _gradients(
    context: ActiveProfile, samples: Sequence[Sample], optimizer: torch.optim.Optimizer, told: str
) -> tuple[ActiveProfile, Tensor]:
    """The gradient of the samples' mean loss, anew in half as large micro-batches where memory runs out.

    Adapters keep more than the frozen pass did, by which micro-batches were measured.

    Returns the context, with the micro-batch that fits, and the loss. Raises as `add_gradients`.
    """
    while True:
        optimizer.zero_grad()
        try:
            loss = add_gradients(context, samples, told)
        except torch.OutOfMemoryError:
            if context.micro_batch == 1:
                raise
        else:
            return context, loss
        context = evolve(context, micro_batch=max(1, min(context.micro_batch, len(samples)) // 2))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def add_gradients(context: ActiveProfile, samples: Sequence[Sample], told: str) -> Tensor:
    """Add the gradient of the samples' mean loss to what requires one, and give that loss, a scalar.

    context: what the metric got.
    samples: with labels.
    told: what an error says after "the loss of ", with ``{loss}`` for the loss.

    Raises `NonFiniteError`.
    """
    total = torch.zeros((), dtype=torch.float64)
    for batch in on_device(samples, context):
        with torch.enable_grad():
            loss = per_sample_losses(context.model, batch, context.task).sum() / len(samples)
        if not torch.isfinite(loss):
            raise NonFiniteError(f"the loss of {told.format(loss=float(loss.detach()))}")
        torch.autograd.backward(loss)
        total = total.to(loss.device) + loss.detach()
    return total


def labelled(context: ActiveProfile, metric: str, fewest: int) -> list[Sample]:
    """The samples with labels, in the order given. Raises `DataError` for fewer than so many.

    context: what the metric was given.
    metric: its name, for messages.
    fewest: samples that it needs.
    """
    samples = [sample for sample in context.samples if count_labels(sample, context.task) > 0]
    if len(samples) < fewest:
        raise DataError(f"{metric} needs at least {fewest} samples with labels, but there are {len(samples)}")
    return samples


def disjoint(samples: Sequence[Sample], parts: int, seed: int) -> list[list[Sample]]:
    """Parts without a sample in common, drawn: the spread of what they give holds that of the samples too.

    samples: to be parted.
    parts: how many.
    seed: that decides who goes where.
    """
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    return [[samples[i] for i in order[part::parts]] for part in range(parts)]


def drawn_batches(
    samples: Sequence[Sample], size: int, steps: int, generator: torch.Generator
) -> Iterator[list[Sample]]:
    """So many batches, epoch after epoch, each in a new order; their size does not depend on the memory at hand.

    samples: to draw from.
    size: samples a batch.
    steps: how many batches.
    generator: that orders are drawn with.
    """
    queue: list[int] = []
    size = min(size, len(samples))
    for _ in range(steps):
        if len(queue) < size:
            queue = torch.randperm(len(samples), generator=generator).tolist()
        chosen, queue = queue[:size], queue[size:]
        yield [samples[i] for i in chosen]


def on_device(samples: Sequence[Sample], context: ActiveProfile) -> Iterator[Sample]:
    """Micro-batches, where the model wants its inputs.

    samples: in their order.
    context: what the metric was given.
    """
    pad, device = pad_token_id(context.model, context.task, context.micro_batch), input_device(context.model)
    for batch in micro_batches(samples, context.micro_batch, pad):
        yield {key: value.to(device) for key, value in batch.items()}
