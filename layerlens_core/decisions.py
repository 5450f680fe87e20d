"""What was decided for a unit, and why."""

from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class Decision:
    """One unit's method and size, with the numbers and words behind them.

    unit: the layer. method: ``none``, ``lora`` …. size: rank, bottleneck width or prefix length, 0 for none.
    sizes: size by module, where leftover budget refined the layer's size.
    parameters: trainable parameters of the decision, exact.
    reason: in words. runner_up: the alternative that came next. margin: the smallest change of this unit's
    utility after which the method would change, where that is known.
    """

    unit: str
    method: str
    size: int
    sizes: Mapping[str, int] = field(factory=dict)
    utility: float
    parameters: int
    reason: str
    runner_up: str | None = None
    margin: float | None = None
