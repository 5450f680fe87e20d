"""Loss change allocation along a warm-up: through which modules the loss falls.

After Lan, Liu, Zhou and Yosinski, "LCA: Loss Change Allocation for Neural Network Training" (arXiv 1909.01440), to
first order and with the gradient of the step's own batch. With θ the entries of a module's A and B, Δθ what a step
moves them by and ∇L the gradient before it, not clipped:

    fall(m) = − Σ over steps of Σ over θ in m of ∇L · Δθ        share(m) = fall(m) / Σ over modules of fall
"""

import math

import torch
from attrs import define, field
from torch import Tensor

from layerlens_core.errors import ScoreError
from layerlens_core.profiling.warming.train import Adapters


@define(eq=False)
class Falls:
    """Adds up the first-order fall in loss by module, where the adapters lie, so that no step waits for a number."""

    _sums: dict[str, Tensor] = field(factory=dict)
    _before: dict[str, list[tuple[Tensor, Tensor]]] = field(factory=dict)

    @property
    def falls(self) -> dict[str, float]:
        """By module, in nats."""
        return {name: float(total) for name, total in self._sums.items()}

    def before(self, adapters: Adapters, loss: Tensor) -> None:
        """Keep parameters and their gradients."""
        self._before = {
            name: [(part.detach().clone(), part.grad.clone()) for part in parts if part.grad is not None]
            for name, parts in adapters.items()
        }

    @torch.no_grad()
    def after(self, adapters: Adapters) -> None:
        """Add −⟨∇L, Δθ⟩."""
        for name, parts in adapters.items():
            total = self._sums.setdefault(name, parts[0].new_zeros((), dtype=torch.float64))
            moved = (part for part in parts if part.grad is not None)
            for new, (old, gradient) in zip(moved, self._before[name], strict=True):
                total += (gradient.double() * (old.double() - new.double())).sum().to(total.device)
        self._before = {}

    def end(self, adapters: Adapters) -> None:
        """Nothing is left to do."""

    def shares(self, of: str) -> dict[str, float]:
        """By module, its share of the fall; heads, which train along, have none.

        of: whose warm-up it was, for the error.

        Raises `ScoreError` where the loss does not fall.
        """
        falls = self.falls
        total = math.fsum(falls.values())
        if not total > 0:
            raise ScoreError(f"the loss does not fall in {of} ({total:g} nats), so no module has a share of it")
        return {name: fall / total for name, fall in falls.items()}
