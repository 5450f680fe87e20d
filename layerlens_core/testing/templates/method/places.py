"""Where the method attaches in a layer, and what it costs there; no torch."""

from collections.abc import Sequence

from layerlens_core.plugin import Layer, Target


class _Shift:
    """One vector of out_features at every linear module, of one size: it is there or not."""

    notch, penalty = 1, 1.0
    #: The share of a layer's gain that it reaches, and the notches for half of that: guesses, until they are measured.
    ceiling, half = 0.5, 0.1
    updates_weights = False

    def targets(self, layer: Layer) -> Sequence[Target]:
        """Every linear module: out_features parameters, and as many additions a token."""
        return tuple(
            Target(
                name=module.name, fixed=module.out_features, per_size=0, flops=module.out_features, keeps_input=False
            )
            for module in layer.modules
        )

    def largest(self, layer: Layer) -> int:
        """It has no larger size than 1."""
        return 1 if layer.modules else 0


METHOD = _Shift()
