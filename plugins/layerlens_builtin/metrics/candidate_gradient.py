"""The gradient of candidates at identity: how strongly the loss pulls at LoRA before it has learned anything.

With A [r, in] as PEFT draws it and B = 0, LoRA changes nothing, A has no gradient, and B's is (α/r) Ḡ Aᵀ with Ḡ the
mean gradient of W. The score is its squared norm,

    ‖∂L/∂B‖² = (α/r)² ‖Ḡ Aᵀ‖²_F        with r = 8, α/r = 2

in (nats/weight)². Gradient energies of adapters before training are what DomLoRA ranks modules by (arXiv 2605.06183).
In expectation over A, whose entries PEFT draws uniformly from ±1/√in, it is (α/r)² r ‖Ḡ‖²_F / (3 in).

Limits: squared norms of means over few samples hold their noise, tr Cov(g)/n. It is done three times, with an A and a
third of the samples of their own each.
"""

import torch

from layerlens_core.plugin import (
    ActiveProfile,
    add_gradients,
    disjoint,
    labelled,
    lora_layers,
    temporary_lora,
    untouched,
)

REPEATS = 3
FEWEST_SAMPLES = 12
RANK = 8
SCALE = 2


def score(context: ActiveProfile) -> list[dict[str, float]]:
    """‖∂L/∂B‖² of every module, once for each draw.

    Raises `DataError` where there are fewer than `FEWEST_SAMPLES` samples with labels, and `NonFiniteError`.
    """
    samples = labelled(context, "candidate_gradient", FEWEST_SAMPLES)
    ranks = dict.fromkeys(context.modules, RANK)
    found = []
    with untouched(context.model):
        for repeat, part in enumerate(disjoint(samples, REPEATS, context.seed)):
            torch.manual_seed(context.seed * REPEATS + repeat)
            with temporary_lora(context.model, ranks, scale=SCALE) as tuned:
                layers = lora_layers(tuned)
                add_gradients(context, part, "candidate_gradient is {loss}")
                gradients = {name: layers[name].lora_B["default"].weight.grad for name in context.modules}
                found.append(
                    {
                        name: 0.0 if gradient is None else float(gradient.double().square().sum())
                        for name, gradient in gradients.items()
                    }
                )
            context.progress(repeat + 1, REPEATS)
    return found
