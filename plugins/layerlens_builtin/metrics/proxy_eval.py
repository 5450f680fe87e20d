"""A short proxy fine-tune, and what each layer's adapters contribute to it.

LoRA of one small rank is trained on every scored module for a few dozen steps; then each layer's adapters alone are
switched off, and the rise of the held-out loss is that layer's score. It measures what fine-tuning does to a layer, not
what one gradient promises, and it can be negative: such adapters did harm.
"""

from collections.abc import Iterator, Sequence

import torch

from layerlens_core.plugin import (
    ActiveProfile,
    DataError,
    NonFiniteError,
    Sample,
    collate,
    count_labels,
    input_device,
    lora_layers,
    micro_batches,
    pad_token_id,
    per_sample_losses,
    temporary_lora,
    untouched,
)

RANK = 4
SCALE = 2
STEPS = 40
LEARNING_RATE = 1e-3
HELD_OUT = 0.25
FEWEST_SAMPLES = 8


def score(context: ActiveProfile) -> dict[str, float]:
    """Rise of the held-out loss in nats, by layer, when that layer's adapters alone are switched off.

    Raises `DataError` where there are fewer than `FEWEST_SAMPLES` samples with labels, and `NonFiniteError`
    where the fine-tune diverges.
    """
    samples = [sample for sample in context.samples if count_labels(sample, context.task) > 0]
    if len(samples) < FEWEST_SAMPLES:
        raise DataError(f"proxy_eval needs at least {FEWEST_SAMPLES} samples with labels, but there are {len(samples)}")
    generator = torch.Generator().manual_seed(context.seed)
    shuffled = [samples[i] for i in torch.randperm(len(samples), generator=generator).tolist()]
    split = max(1, round(len(samples) * HELD_OUT))
    held_out, training = shuffled[:split], shuffled[split:]
    layers = {
        layer.name: [module.name for module in layer.modules]
        for layer in context.inventory.layers
        if layer.name in context.scored
    }
    ranks = {module: RANK for modules in layers.values() for module in modules}
    heads = [head.name for head in context.inventory.heads]
    work = STEPS + len(layers) + 1
    with untouched(context.model):
        torch.manual_seed(context.seed)
        with temporary_lora(context.model, ranks, scale=SCALE, heads=heads) as tuned:
            trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
            for step, batch in enumerate(_training_batches(training, context, generator)):
                loss = per_sample_losses(context.model, batch, context.task).mean()
                if not torch.isfinite(loss):
                    raise NonFiniteError(f"the loss of proxy_eval's fine-tune is {float(loss)} in step {step}")
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                context.progress(step + 1, work)
            adapters = lora_layers(tuned)
            whole = _mean_loss(held_out, context)
            context.progress(STEPS + 1, work)
            rises = {}
            for number, (layer, modules) in enumerate(layers.items(), start=1):
                for module in modules:
                    adapters[module].scale_layer(0.0)
                rises[layer] = _mean_loss(held_out, context) - whole
                for module in modules:
                    adapters[module].unscale_layer()
                context.progress(STEPS + 1 + number, work)
    return rises


def _training_batches(
    samples: Sequence[Sample], context: ActiveProfile, generator: torch.Generator
) -> Iterator[Sample]:
    """`STEPS` batches, epoch after epoch, each in a new order."""
    queue: list[int] = []
    size = min(context.micro_batch, len(samples))
    pad, device = pad_token_id(context.model, context.task, size), input_device(context.model)
    for _ in range(STEPS):
        if len(queue) < size:
            queue = torch.randperm(len(samples), generator=generator).tolist()
        chosen, queue = queue[:size], queue[size:]
        batch = collate([samples[i] for i in chosen], pad)
        yield {key: value.to(device) for key, value in batch.items()}


@torch.no_grad()
def _mean_loss(samples: Sequence[Sample], context: ActiveProfile) -> float:
    """Mean over samples of their own mean loss, in nats."""
    pad, device = pad_token_id(context.model, context.task, context.micro_batch), input_device(context.model)
    total = 0.0
    for batch in micro_batches(samples, context.micro_batch, pad):
        on_device = {key: value.to(device) for key, value in batch.items()}
        total += float(per_sample_losses(context.model, on_device, context.task).sum(dtype=torch.float64))
    return total / len(samples)
