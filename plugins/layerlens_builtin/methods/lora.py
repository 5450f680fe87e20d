"""LoRA (Hu et al. 2021, arXiv 2106.09685): W + (α/r)·B·A with A of r × in and B of out × r."""

from layerlens_builtin.methods.curves import LORA
from layerlens_core.plugin import Layer, Target

LARGEST_RANK = 64


class _LoRA:
    notch, penalty = 1, 1.0
    ceiling, half, _ = LORA
    updates_weights = True

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """Every linear module; r·(in + out) parameters and 2r·(in + out) forward FLOPs a token at rank r."""
        return tuple(
            Target(
                name=module.name,
                fixed=0,
                per_size=module.in_features + module.out_features,
                flops=2 * (module.in_features + module.out_features),
                kept=1,
            )
            for module in layer.modules
        )

    def largest(self, layer: Layer) -> int:
        """At most `LARGEST_RANK`, and what is possible."""
        return min(LARGEST_RANK, self.possible(layer))

    def possible(self, layer: Layer) -> int:
        """The full rank of the layer's largest module.

        The smallest module does not limit it: a gate with one output would hold its whole layer at rank 1.
        """
        return max((min(m.in_features, m.out_features) for m in layer.modules), default=0)


METHOD = _LoRA()
