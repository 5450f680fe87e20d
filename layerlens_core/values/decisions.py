"""What was decided for a unit, and why; and how near all decisions are to the best ones."""

from collections.abc import Iterator, Mapping

from attrs import field, frozen

from layerlens_core.values.costs import Cost


@frozen(kw_only=True)
class Decision:
    """One unit's method and size, with the numbers and words behind them.

    unit: name of the layer.
    method: ``none``, ``lora`` ….
    size: rank, bottleneck width or prefix length, 0 for ``none``.
    sizes: size by module, where modules differ in utility or leftover budget refined the unit's size.
    utility: of the unit.
    cost: of the decision, exact; the frozen model is not in it.
    reason: in words.
    runner_up: the alternative that came next.
    margin: the signed change of this unit's utility after which the method would change, where that is known.
    """

    unit: str
    method: str
    size: int
    sizes: Mapping[str, int] = field(factory=dict)
    utility: float
    cost: Cost
    reason: str
    runner_up: str | None = None
    margin: float | None = None

    @property
    def parameters(self) -> int:
        """Trainable parameters, exact."""
        return self.cost.params


@frozen(kw_only=True)
class Certificate:
    """How near a plan is to the best one.

    value: what the plan gains.
    bound: what no plan within the limits can exceed.
    """

    value: float
    bound: float

    @property
    def gap(self) -> float:
        """The share of the bound that the plan may be missing; 0 for an optimum."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


@frozen(kw_only=True)
class Selection:
    """What a strategy returns that has more to say than its decisions.

    decisions: one for each unit.
    certificate: how good they are, from a strategy that can prove it.
    notes: sentences on the whole plan, such as what a budget forced.
    """

    decisions: tuple[Decision, ...]
    certificate: Certificate | None = None
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)
