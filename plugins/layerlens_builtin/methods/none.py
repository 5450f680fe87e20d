"""No method: the layer stays frozen and costs nothing."""

from layerlens_core.plugin import Layer, Target


class _Frozen:
    notch, ceiling, half, penalty = 1, 0.0, 1.0, 1.0
    updates_weights = False

    def targets(self, layer: Layer) -> tuple[Target, ...]:
        return ()

    def largest(self, layer: Layer) -> int:
        return 0


METHOD = _Frozen()
