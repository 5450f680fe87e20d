"""What a comparison of two runs finds."""

from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class Decided:
    """What a layer gets.

    method: ``none``, ``lora`` ….
    size: rank, bottleneck width or prefix length; 0 for ``none``.
    sizes: by place that the method attaches to.
    """

    method: str
    size: int
    sizes: Mapping[str, int]


@frozen(kw_only=True)
class ChangedDecision:
    """A layer of both runs that they decide on differently.

    unit: its name.
    before: in the first run.
    after: in the second.
    """

    unit: str
    before: Decided
    after: Decided


@frozen(kw_only=True)
class Effect:
    """What one part of the second run does to the decisions of the first, alone.

    name: of the part.
    explains: the changed layers that then get what the second run gives them; None where that cannot be told.
    elsewhere: the other layers that then get something else than in the first run.
    refused: why the first run cannot be planned with it alone, or not at all; None where it can.
    """

    name: str
    explains: tuple[str, ...] | None
    elsewhere: tuple[str, ...] = ()
    refused: str | None = None


@frozen(kw_only=True)
class ChangedInput:
    """An input that differs.

    name: such as ``budget``; of inputs that were measured together and cannot be told apart, all of them.
    before: in the first run, in words.
    after: in the second.
    effect: of the second run's, in place of the first's.
    parts: of an input that was measured, the effect of each of its results alone, such as of one metric's scores.
    """

    name: str
    before: str
    after: str
    effect: Effect
    parts: tuple[Effect, ...] = ()


@frozen(kw_only=True)
class Combination:
    """Changes that none of several inputs makes alone, and all of them make together.

    inputs: their names, as few as will do.
    explains: the changed layers that then get what the second run gives them.
    """

    inputs: tuple[str, ...]
    explains: tuple[str, ...]


@frozen(kw_only=True)
class Difference:
    """How two runs differ.

    first: the directory of the first run.
    second: of the second.
    layers: how many both decide on.
    changed: those that they decide on differently, in the order of the model.
    only_first: layers that only the first decides on.
    only_second: likewise.
    costs: by resource, what each plans to spend, the frozen model included.
    inputs: that differ.
    combinations: of inputs that make a change together alone.
    together: how many of the changed layers get what the second run gives them once all of its inputs are taken; None
        where that cannot be replayed.
    unexplained: changed layers that no inputs explain.
    remarks: sentences on what could not be compared or replayed.
    """

    first: str
    second: str
    layers: int
    changed: tuple[ChangedDecision, ...]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    costs: Mapping[str, tuple[float, float]]
    inputs: tuple[ChangedInput, ...]
    combinations: tuple[Combination, ...] = ()
    together: int | None = None
    unexplained: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    @property
    def same(self) -> bool:
        """Whether both decide alike on the same layers."""
        return not (self.changed or self.only_first or self.only_second)
