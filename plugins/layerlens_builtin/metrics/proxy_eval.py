"""Short proxy fine-tunes, and what each layer's adapters contribute to them.

LoRA of one small rank is trained on every scored module for a few dozen steps; then each layer's adapters alone are
switched off, and the rise of the held-out loss is that layer's score. It measures what fine-tuning does to a layer, not
what one gradient promises, and it can be negative: such adapters did harm.

Both the held-out samples and the fine-tune are drawn, so that is done three times, with seeds of their own: every third
of the samples is held out once. A layer's score is the mean rise over all samples, and its standard error follows from
the spread of the samples within thirds and from that of the thirds' means, which is the fine-tune's own.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch
from scipy.special import stdtrit

from layerlens_core.plugin import (
    ActiveProfile,
    NonFiniteError,
    Sample,
    add_gradients,
    drawn_batches,
    labelled,
    lora_layers,
    on_device,
    per_sample_losses,
    temporary_lora,
    untouched,
)

RANK = 4
SCALE = 2
BATCH = 4
STEPS = 40
#: Few samples are not gone through more often: adapters that know them by heart do harm on all others.
EPOCHS = 2
LEARNING_RATE = 1e-3
FOLDS = 3
FEWEST_SAMPLES = 8
#: The tail of Student's t by which errors from few samples are widened: where ten layers are told from noise.
TAIL = 0.9975


def score(context: ActiveProfile) -> dict[str, tuple[float, float]]:
    """Rise of the held-out loss in nats and its standard error, by layer, when that layer's adapters alone are off.

    Raises `DataError` where there are fewer than `FEWEST_SAMPLES` samples with labels, and `NonFiniteError`
    where the fine-tune diverges.
    """
    samples = labelled(context, "proxy_eval", FEWEST_SAMPLES)
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(samples), generator=generator).tolist()
    rises: dict[str, list[list[float]]] = {layer: [] for layer in context.scored}
    with untouched(context.model):
        for fold in range(FOLDS):
            held_out = [samples[i] for i in order[fold::FOLDS]]
            training = [samples[i] for place, i in enumerate(order) if place % FOLDS != fold]
            torch.manual_seed(context.seed * FOLDS + fold)
            for layer, of_fold in _rises(training, held_out, context, fold, generator).items():
                rises[layer].append(of_fold)
    return {layer: _mean_with_error(of_folds) for layer, of_folds in rises.items()}


def _rises(
    training: Sequence[Sample],
    held_out: Sequence[Sample],
    context: ActiveProfile,
    fold: int,
    generator: torch.Generator,
) -> dict[str, list[float]]:
    """By layer, the rise of each held-out sample's loss without the layer's adapters, after a fine-tune."""
    layers = {
        layer.name: [module.name for module in layer.modules]
        for layer in context.inventory.layers
        if layer.name in context.scored
    }
    ranks = {module: RANK for modules in layers.values() for module in modules}
    heads = [head.name for head in context.inventory.heads]
    steps = min(STEPS, EPOCHS * math.ceil(len(training) / BATCH))
    work = FOLDS * (steps + len(layers) + 1)
    done = work // FOLDS * fold
    rises = {}
    with temporary_lora(context.model, ranks, scale=SCALE, heads=heads) as tuned:
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
        for step, chosen in enumerate(drawn_batches(training, BATCH, steps, generator)):
            optimizer.zero_grad()
            add_gradients(context, chosen, f"proxy_eval's fine-tune is {{loss}} in step {step}")
            optimizer.step()
            context.progress(done + step + 1, work)
        adapters = lora_layers(tuned)
        whole = _losses(held_out, context, "with all adapters")
        context.progress(done + steps + 1, work)
        for number, (layer, modules) in enumerate(layers.items(), start=1):
            with context.scoring(layer):
                for module in modules:
                    adapters[module].scale_layer(0.0)
                without = _losses(held_out, context, f"without the adapters of {layer}")
                rises[layer] = [after - before for after, before in zip(without, whole, strict=True)]
                for module in modules:
                    adapters[module].unscale_layer()
            context.progress(done + steps + 1 + number, work)
    return rises


def _mean_with_error(parts: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean over all samples, and its standard error.

    The parts' means differ by their own samples, and by what else was drawn for the part: the variance of the mean is
    the larger one of what the spread within and that between the parts gives, as in a model of random effects. With
    few samples it is widened by Student's t over the normal quantile.
    """
    count, folds = sum(map(len, parts)), len(parts)
    means = [math.fsum(part) / len(part) for part in parts]
    freedom = count - folds
    squares = math.fsum((x - mean) ** 2 for part, mean in zip(parts, means, strict=True) for x in part)
    within = squares / freedom / count
    centre = math.fsum(means) / folds
    between = math.fsum((mean - centre) ** 2 for mean in means) / (folds - 1) / folds
    widened = float(stdtrit(freedom, TAIL)) / NormalDist().inv_cdf(TAIL)
    return math.fsum(x for part in parts for x in part) / count, math.sqrt(max(within, between)) * widened


@torch.no_grad()
def _losses(samples: Sequence[Sample], context: ActiveProfile, when: str) -> list[float]:
    """Every sample's own mean loss, in nats. Raises `NonFiniteError`."""
    losses: list[float] = []
    for batch in on_device(samples, context):
        losses += per_sample_losses(context.model, batch, context.task).double().tolist()
    wrong = next((loss for loss in losses if not math.isfinite(loss)), None)
    if wrong is not None:
        raise NonFiniteError(f"a held-out loss of proxy_eval's fine-tune is {wrong} {when}")
    return losses
