"""Bottleneck adapters (Houlsby et al. 2019, arXiv 1902.00751) on what writes to the residual stream."""

from layerlens_builtin.methods.curves import ADAPTER
from layerlens_core.plugin import Layer, Target

LARGEST_WIDTH = 256


class _Adapter:
    # A width of 4 on the two writers of a layer costs about what a LoRA rank on all its modules does.
    notch, penalty = 4, 1.2
    ceiling, half, _ = ADAPTER
    updates_weights = False

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        """The residual writers, each with down-projection, up-projection and both biases: 2dm + m + d."""
        return tuple(
            Target(
                name=writer.name,
                fixed=writer.features,
                per_size=2 * writer.features + 1,
                flops=4 * writer.features,
                kept_fixed=writer.features,
                kept=2,
            )
            for writer in layer.writers
        )

    def largest(self, layer: Layer) -> int:
        """At most `LARGEST_WIDTH`, and no wider than the residual stream."""
        width = min((writer.features for writer in layer.writers), default=0)
        return min(LARGEST_WIDTH, width)


METHOD = _Adapter()
