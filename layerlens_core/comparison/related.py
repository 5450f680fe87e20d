"""Whether labels have to do with inputs, by forward passes alone: what costs little beside profiling.

Under labels that mean nothing, any other order of them is as likely. So the samples' own labels are held against
permuted ones, by what the model as it is makes of the inputs. In causal models: does the answer's loss rise where it
stands behind another sample's prompt? In classifiers, whose head may be random: are samples of like labels more alike
in what the head is given (a permutation test of independence, Gretton et al. 2008, NIPS 20)? A quarter of the samples
is looked at first, and half of them where that does not tell; the p is corrected for the two looks.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerlens_core.allocation.abstention import LEAST_SAMPLES, LEVEL
from layerlens_core.comparison.learnable import (
    beyond_noise,
    can_be_permuted,
    losses_of,
    on_device,
    same_labels,
    with_labels_of,
)
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.profile import Evidence

#: Shares of the samples that are looked at, one after the other, and how many at most.
SHARES, MOST = (1 / 4, 1 / 2), 128
#: Orders of the labels that are drawn.
PERMUTATIONS = 1999


def related(context: ActiveProfile) -> Evidence | None:
    """Whether labels have to do with inputs; None where labels cannot be permuted, or samples are too few to tell.

    context: model and samples; the model is left as it was.

    Raises `NonFiniteError` where a loss is not finite.
    """
    samples = context.samples
    if len(samples) < LEAST_SAMPLES or not all(can_be_permuted(sample, context.task) for sample in samples):
        return None
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(samples), generator=generator).tolist()
    counts = sorted({min(max(round(share * len(samples)), LEAST_SAMPLES), MOST) for share in SHARES})
    found = None
    with untouched(context.model):
        for count in counts:
            chosen = [samples[i] for i in order[:count]]
            seen = _likelier(chosen, context) if context.task == "causal-lm" else _alike(chosen, context)
            if seen is None:
                return None
            advantage, error, p = seen
            found = Evidence(
                advantage=round(advantage, 6),
                error=round(error, 6),
                samples=count,
                p=round(min(1.0, p * len(counts)), 6),
                by="likelihood" if context.task == "causal-lm" else "likeness",
            )
            if found.p <= LEVEL:
                break
    return found


def _likelier(samples: Sequence[Sample], context: ActiveProfile) -> tuple[float, float, float] | None:
    """By how many nats own answers are likelier than those of others, its standard error, and p (one-sided t)."""
    places = torch.randperm(len(samples), generator=torch.Generator().manual_seed(context.seed)).tolist()
    others = [with_labels_of(one, samples[place], context.task) for one, place in zip(samples, places, strict=True)]
    changed = [i for i, (one, other) in enumerate(zip(samples, others, strict=True)) if not same_labels(one, other)]
    if len(changed) < 2:
        return 0.0, 0.0, 1.0
    own = losses_of([samples[i] for i in changed], context)
    their = losses_of([others[i] for i in changed], context)
    differences = np.array(their) - np.array(own)
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return mean, error, beyond_noise(mean, error, len(differences))


def _alike(samples: Sequence[Sample], context: ActiveProfile) -> tuple[float, float, float] | None:
    """How much more alike samples of like labels are than under permuted labels, the spread of the latter, and p."""
    features = _features(samples, context)
    if features is None:
        return None
    return independence(features, np.stack([sample["labels"].reshape(-1).numpy() for sample in samples]), context.seed)


def independence(features: Any, labels: Any, seed: int) -> tuple[float, float, float]:
    """How much more alike are the features of samples with like labels than under permuted labels?

    Features are alike by the cosine of what is left of them without their mean; labels where they are equal, and
    vectors and numbers with a fraction by the product of what is left of them without their mean.

    features: [samples, width].
    labels: [samples, entries], whole numbers or not.
    seed: draws the orders.

    Returns the mean likeness, weighed by that of the labels, less what permuted labels give; the spread of that; and
    the share of orders that give no less, the labels' own among them.
    """
    centred = features - features.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    directions = centred / np.where(norms > 0, norms, 1.0)
    alike = directions @ directions.T
    if labels.shape[1] == 1 and np.issubdtype(labels.dtype, np.integer):
        equal = (labels == labels.T).astype(np.float64)
    else:
        rest = labels - labels.mean(axis=0)
        equal = rest @ rest.T
    for matrix in (alike, equal):
        np.fill_diagonal(matrix, 0.0)
    weight = float(np.abs(equal).sum())
    if weight == 0:
        return 0.0, 0.0, 1.0
    draw = np.random.default_rng(seed)
    orders = (draw.permutation(len(labels)) for _ in range(PERMUTATIONS))
    null = np.array([float((alike * equal[np.ix_(order, order)]).sum()) for order in orders])
    own = float((alike * equal).sum())
    p = (1 + int((null >= own - 1e-12 * weight).sum())) / (1 + PERMUTATIONS)
    return (own - float(null.mean())) / weight, float(null.std()) / weight, p


@torch.no_grad()
def _features(samples: Sequence[Sample], context: ActiveProfile) -> Any:
    """What the head is given of each sample [samples, width]; None where there is no head, or not one row a sample."""
    if not context.inventory.heads:
        return None
    seen: list[Tensor] = []
    found: list[Any] = []
    head = context.model.get_submodule(context.inventory.heads[0].name)
    handle = head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]) if inputs else None)
    try:
        for batch in on_device(samples, context):
            seen.clear()
            per_sample_losses(context.model, batch, context.task)
            count = len(batch["labels"])
            if len(seen) != 1 or len(seen[0]) != count:
                return None
            found.append(_one_row_each(seen[0], batch.get("attention_mask")))
    finally:
        handle.remove()
    rows = torch.cat(found).double().cpu().numpy()
    return rows if np.isfinite(rows).all() else None


def _one_row_each(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over a sample's positions, padding aside, where there are positions [samples, width]."""
    if inputs.dim() == 3 and mask is not None and mask.shape == inputs.shape[:2]:
        weights = mask.to(inputs.dtype)[..., None]
        return (inputs * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return inputs.mean(dim=1) if inputs.dim() == 3 else inputs.flatten(1)
