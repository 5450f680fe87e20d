"""AdaLoRA's sensitivity along a short LoRA warm-up (Zhang and others, arXiv 2303.10512, section 3.2).

For every entry θ of a module's A [rank, in] and B [out, rank], step by step, from zero, with β = 0.85:

    I = |θ ∇θ|    Ī ← β Ī + (1 − β) I    Ū ← β Ū + (1 − β) |I − Ī|    s = Ī · Ū

As in PEFT, a direction's importance is the mean of s over its row of A plus that over its column of B, and a module's
is the sum over its directions. The unit is nats².

Limits: AdaLoRA weighs P, Λ and Q of a decomposition that it keeps orthogonal; here there is plain LoRA, without Λ, and
nothing is pruned on the way. Gradients are those before clipping. The weights of the averages make it a statement
about the last dozen steps. It is done three times, with adapters and a third of the samples of their own each.
"""

import torch
from attrs import define, field
from torch import Tensor

from layerlens_core.plugin import ActiveProfile, Adapters, WarmUpRecipe, disjoint, labelled, untouched, warm_up

REPEATS = 3
FEWEST_SAMPLES = 12
RECIPE = WarmUpRecipe()
BETA = 0.85


@define(eq=False)
class Sensitivity:
    """Both moving averages of every entry, by module, of A and of B."""

    averages: dict[str, list[tuple[Tensor, Tensor]]] = field(factory=dict)

    def before(self, adapters: Adapters, loss: Tensor) -> None:
        """Take in θ and ∇θ."""
        for name, parts in adapters.items():
            old = self.averages.get(name) or [(torch.zeros_like(part), torch.zeros_like(part)) for part in parts]
            self.averages[name] = [_moved(*pair, part) for pair, part in zip(old, parts, strict=True)]

    def after(self, adapters: Adapters) -> None:
        """Nothing is left to do."""

    def end(self, adapters: Adapters) -> None:
        """Nothing is left to do."""

    def importance(self, name: str) -> Tensor:
        """Of each of a module's directions [rank]."""
        (mean_a, spread_a), (mean_b, spread_b) = self.averages[name]
        return (mean_a * spread_a).mean(dim=1) + (mean_b * spread_b).mean(dim=0)


@torch.no_grad()
def _moved(mean: Tensor, spread: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    if part.grad is None:
        return mean, spread
    sensitivity = (part * part.grad).abs()
    mean = BETA * mean + (1 - BETA) * sensitivity
    return mean, BETA * spread + (1 - BETA) * (sensitivity - mean).abs()


def score(context: ActiveProfile) -> list[dict[str, float]]:
    """The importance of every module's directions together, once for each warm-up.

    Raises `DataError` where there are fewer than `FEWEST_SAMPLES` samples with labels, and `NonFiniteError` where a
    warm-up diverges.
    """
    samples = labelled(context, "adalora", FEWEST_SAMPLES)
    found = []
    with untouched(context.model):
        for repeat, part in enumerate(disjoint(samples, REPEATS, context.seed)):
            watch = Sensitivity()
            warm_up(context, part, RECIPE, watch, of="adalora's warm-up", repeat=repeat, repeats=REPEATS)
            found.append({name: float(watch.importance(name).double().sum()) for name in context.modules})
    return found
