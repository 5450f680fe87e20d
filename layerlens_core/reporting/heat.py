"""A plan as a heat map: layers down, the places where methods attach across, each with its method, size and shade."""

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from layerlens_core.values.decisions import Decision
from layerlens_core.values.inventory import Layer
from layerlens_core.values.plan import Plan
from layerlens_core.values.profile import Profile

#: Shades of a heat map, the faintest first.
SHADES = 9
#: With more places than this in a layer, those that differ by a number alone, as experts do, share a column.
MOST_COLUMNS = 16
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@frozen(kw_only=True)
class Cell:
    """One column of one layer.

    places: full names of what lies in it; several where experts share a column.
    method: ``none`` where nothing trains.
    low, high: of the sizes of its places.
    shade: of the size among all sizes of the method; None where nothing trains.
    score: of the places' own scores among all of their kind; None where none is known.
    """

    places: tuple[str, ...]
    method: str
    low: int
    high: int
    shade: int | None
    score: int | None = None

    @property
    def size(self) -> str:
        """In words: ``8``, ``3–5``; nothing where nothing trains."""
        if self.high == 0:
            return ""
        return str(self.high) if self.low == self.high else f"{self.low}–{self.high}"


@frozen(kw_only=True)
class Row:
    """One layer.

    decision: on it.
    label: what tells it apart within its group.
    shade: of its utility among all layers.
    cells: by column of its group; None where this layer has no such place.
    """

    decision: Decision
    label: str
    shade: int
    cells: tuple[Cell | None, ...]


@frozen(kw_only=True)
class Group:
    """Layers of one kind: an encoder's, a decoder's, or all of them.

    name: what their names share; nothing where there is one group of unnumbered layers.
    columns: of the places, by their names within a layer.
    rows: in the order of the model.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def headings(self) -> tuple[str, ...]:
        """Of the columns: the shortest endings that tell them apart."""
        return tuple(_shortest(name, self.columns) for name in self.columns)


def heat_map(plan: Plan, profile: Profile | None = None, importance: Mapping[str, float] | None = None) -> list[Group]:
    """The groups of a plan's heat map, in the order of the model.

    plan: to be shown.
    profile: that it was made from; without it, columns are those places alone that the plan gives a size.
    importance: utilities of single modules by name, where they are known.
    """
    layers = {layer.name: layer for layer in profile.inventory.layers} if profile is not None else {}
    places = {each.unit: _places(each, layers.get(each.unit)) for each in plan.decisions}
    merged = max((len(each) for each in places.values()), default=0) > MOST_COLUMNS
    shader = _Shader(plan, importance or {})
    grouped: dict[str, list[Decision]] = {}
    for decision in plan.decisions:
        grouped.setdefault(stem(decision.unit), []).append(decision)
    return [_group(name, decisions, places, merged, shader) for name, decisions in grouped.items()]


def _group(
    name: str, decisions: Sequence[Decision], places: Mapping[str, Sequence[str]], merged: bool, shader: "_Shader"
) -> Group:
    by_column: dict[str, dict[str, list[str]]] = {}
    for decision in decisions:
        columns: dict[str, list[str]] = {}
        for place in places[decision.unit]:
            local = place.removeprefix(f"{decision.unit}.")
            columns.setdefault(_NUMBER.sub("*", local) if merged else local, []).append(place)
        by_column[decision.unit] = columns
    names = tuple(dict.fromkeys(column for columns in by_column.values() for column in columns))
    rows = tuple(
        Row(
            decision=each,
            label=each.unit.removeprefix(f"{name}.") if name else each.unit,
            shade=shader.utility(each.utility),
            cells=tuple(
                shader.cell(each, tuple(by_column[each.unit][column])) if column in by_column[each.unit] else None
                for column in names
            ),
        )
        for each in decisions
    )
    return Group(name=name, columns=names, rows=rows)


class _Shader:
    """Shades by what is largest in the whole plan."""

    def __init__(self, plan: Plan, importance: Mapping[str, float]) -> None:
        self._sizes: dict[str, int] = {}
        for each in plan.decisions:
            self._sizes[each.method] = max(self._sizes.get(each.method, 0), each.size, *each.sizes.values(), 0)
        self._importance = importance
        self._largest = max(importance.values(), default=0.0)
        self._utility = max((each.utility for each in plan.decisions), default=0.0)

    def utility(self, value: float) -> int:
        return shade(value, self._utility)

    def cell(self, decision: Decision, places: tuple[str, ...]) -> Cell:
        sizes = [decision.sizes.get(place, 0) for place in places]
        low, high = min(sizes), max(sizes)
        scores = [self._importance[place] for place in places if place in self._importance]
        return Cell(
            places=places,
            method=decision.method if high else "none",
            low=low,
            high=high,
            shade=shade(high, self._sizes[decision.method]) if high else None,
            score=shade(max(scores), self._largest) if scores else None,
        )


def shade(value: float, largest: float) -> int:
    """Which of the shades a value has: the faintest at 0 and below, the deepest at the largest.

    value: to be shown.
    largest: of all that it is shown beside.
    """
    if not (value > 0 and largest > 0):
        return 0
    return SHADES - 1 if value >= largest else min(int(value / largest * SHADES), SHADES - 1)


def stem(layer: str) -> str:
    """What a layer's name shares with those of its kind: all before its number.

    layer: its full name.
    """
    head, _, last = layer.rpartition(".")
    return head if last.isdecimal() else ""


def _places(decision: Decision, layer: Layer | None) -> list[str]:
    """Where methods attach in a layer, or might: its linear modules, and what else the plan gives a size."""
    modules = [module.name for module in layer.modules] if layer is not None else []
    stacked = [weight.name for weight in layer.experts] if layer is not None else []
    return list(dict.fromkeys([*modules, *stacked, *decision.sizes]))


def _shortest(name: str, names: Sequence[str]) -> str:
    parts = name.split(".")
    for count in range(1, len(parts)):
        ending = ".".join(parts[-count:])
        if not any(other != name and (other == ending or other.endswith(f".{ending}")) for other in names):
            return ending
    return name
