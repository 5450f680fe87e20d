"""GoRA's importance (arXiv 2502.12171): how much the weights that are there matter to what the data ask for.

    I = mean over the entries of |W ⊙ Ḡ|,  Ḡ the mean gradient over all samples

The unit is nats a weight. `weight_gradient` is its cheaper sibling: it takes absolute values in groups of two samples
and averages afterwards, so that gradients that cancel between samples count there, and hardly do here.

The order's stability comes from halves of the samples, which are scored along the way: Ḡ is the mean of the halves'
mean gradients, each weighted by its count. Repeats on parts of the samples would not do. Their mean is a mean of
|W ⊙ Ḡ_half|, which is another signal, as less has cancelled in it. Nor are there standard errors: I is a size that
noise raises everywhere and makes negative nowhere, and to shrink it by errors would be to say otherwise.

Limits: Ḡ of few samples is mostly noise, which absolute values do not average out. Ḡ is formed whole, of each half 4
bytes a weight, in as many passes as memory asks for. GoRA adds up Ḡ over 32 to 64 steps of its own loss; here it is
that of samples.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from layerlens_core.plugin import (
    ActiveProfile,
    HalvedScores,
    Sample,
    count_labels,
    mean_gradients,
    mean_gradients_of_parts,
    plain_weight,
)

#: Of fewer samples with labels halves tell nothing.
FEWEST_SAMPLES = 4


def score(context: ActiveProfile) -> HalvedScores | Mapping[str, float]:
    """Mean |W ⊙ Ḡ| of every module, and that of halves of the samples where there are enough.

    Raises `ModelError` where a weight cannot be read, and `NonFiniteError`.
    """
    labelled = [sample for sample in context.samples if count_labels(sample, context.task) > 0]
    if len(labelled) < FEWEST_SAMPLES:
        return {name: importance(plain_weight(context, name), mean) for name, mean in mean_gradients(context)}
    parts = halves(labelled, context.seed)
    shares = [len(part) / len(labelled) for part in parts]
    scores: dict[str, float] = {}
    of_halves: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for name, means in mean_gradients_of_parts(context, parts):
        weight = plain_weight(context, name)
        for found, mean in zip(of_halves, means, strict=True):
            found[name] = importance(weight, mean)
        first, second = means
        scores[name] = importance(weight, first.mul_(shares[0]).add_(second, alpha=shares[1]))
    return HalvedScores(scores=scores, halves=of_halves)


def halves(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Two halves without a sample in common: of every two samples that are next by length, one each, drawn.

    So both halves have alike lengths, and neither has more by luck of what long samples have.

    samples: with labels.
    seed: draws which goes where.
    """
    # The longest first, as one that is left over in the end should be short.
    ordered = sorted(samples, key=lambda sample: len(sample.get("input_ids", ())), reverse=True)
    generator = torch.Generator().manual_seed(seed)
    found: tuple[list[Sample], list[Sample]] = ([], [])
    for pair in range(0, len(ordered), 2):
        first = int(torch.randint(2, (), generator=generator))
        for place, sample in enumerate(ordered[pair : pair + 2]):
            found[(first + place) % 2].append(sample)
    return found


def importance(weight: Tensor, gradient: Tensor) -> float:
    """Mean |W ⊙ G|, summed in float64.

    weight: W [out, in].
    gradient: G [out, in].
    """
    return float((weight.to(gradient) * gradient).abs_().sum(dtype=torch.float64)) / gradient.numel()
