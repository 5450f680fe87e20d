"""A unit's candidates as columns: numbers side by side, and objects only where somebody looks at one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, final, overload

from attrs import frozen

from layerlens_core.errors import PlanError
from layerlens_core.values.costs import RESOURCES, Cost

if TYPE_CHECKING:  # numpy is imported where it is used: looking at names must not cost a tenth of a second
    import numpy
    from numpy.typing import NDArray

    Floats = NDArray[numpy.float64]
    Integers = NDArray[numpy.int64]

#: Whole numbers up to here are exact as floats too, and so are all comparisons between them.
MOST_EXACT = 2**53


@frozen(kw_only=True)
class Candidate:
    """One method at one size on one unit.

    method: its name.
    size: rank, bottleneck width or prefix length; 0 for ``none``.
    cost: exact.
    gain: predicted, on the scale of the utilities.
    """

    method: str
    size: int
    cost: Cost
    gain: float

    @property
    def parameters(self) -> int:
        """Trainable parameters, exact."""
        return self.cost.params

    def __str__(self) -> str:
        return f"{self.method} of size {self.size}" if self.size else self.method


@frozen(kw_only=True, eq=False)
class Offers:
    """What can be had in a unit and what it costs, in rows. Units of one shape share one of these.

    methods: names.
    codes: by row, the method's place in ``methods``; int64 [rows].
    sizes: by row; int64 [rows].
    amounts: by resource, the cost by row; int64 [rows] for ``params``, float64 [rows] for the others.
    """

    methods: tuple[str, ...]
    codes: "Integers"
    sizes: "Integers"
    amounts: "Mapping[str, NDArray[Any]]"

    @classmethod
    def of(cls, methods: Sequence[str], sizes: Sequence[int], costs: Mapping[str, Sequence[float]]) -> "Offers":
        """From one method, size and amount of each resource a row. Raises `PlanError` for what cannot be exact."""
        import numpy

        names = tuple(dict.fromkeys(methods))
        code_of = {name: code for code, name in enumerate(names)}
        for what, numbers in (("a size", sizes), ("a cost in parameters", costs["params"])):
            if largest := max((number for number in numbers if abs(number) > MOST_EXACT), default=0):
                raise PlanError(f"{what} of {largest:,} is beyond 2**53, up to which whole numbers are exact")
        return cls(
            methods=names,
            codes=numpy.array([code_of[method] for method in methods], dtype=numpy.int64),
            sizes=numpy.array(sizes, dtype=numpy.int64),
            amounts={
                name: numpy.array(costs[name], dtype=numpy.int64 if name == "params" else numpy.float64)
                for name in RESOURCES
            },
        )

    def take(self, rows: "NDArray[Any]") -> "Offers":
        """Some of the rows, by position or by a mask."""
        return Offers(
            methods=self.methods,
            codes=self.codes[rows],
            sizes=self.sizes[rows],
            amounts={name: amounts[rows] for name, amounts in self.amounts.items()},
        )

    @cached_property
    def rows(self) -> "Mapping[str, Integers]":
        """The rows of each method that has any, in order."""
        import numpy

        return {
            method: found
            for code, method in enumerate(self.methods)
            if (found := numpy.flatnonzero(self.codes == code)).size
        }

    @cached_property
    def cheapest(self) -> Mapping[str, int]:
        """By method, the row with the fewest parameters; the first of several."""
        return {method: int(rows[self.amounts["params"][rows].argmin()]) for method, rows in self.rows.items()}

    @cached_property
    def sizes_of(self) -> Mapping[str, Sequence[int]]:
        """By method, its sizes."""
        return {method: tuple(self.sizes[rows].tolist()) for method, rows in self.rows.items()}

    def same(self, other: "Offers") -> bool:
        """Whether all rows are equal."""
        import numpy

        return self is other or (
            [self.methods[code] for code in self.codes] == [other.methods[code] for code in other.codes]
            and numpy.array_equal(self.sizes, other.sizes)
            and all(numpy.array_equal(self.amounts[name], other.amounts[name]) for name in RESOURCES)
        )


@final
class Candidates(Sequence[Candidate]):
    """The candidates of one unit: a sequence of `Candidate`, which are made where they are looked at.

    offers: methods, sizes and costs.
    gains: predicted, by row; float64 [rows].
    """

    __slots__ = ("_made", "gains", "offers")

    def __init__(self, offers: Offers, gains: "Floats") -> None:
        self.offers, self.gains = offers, gains
        self._made: tuple[Candidate, ...] | None = None

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> "Candidates":
        """Of candidates that were made one by one."""
        import numpy

        if isinstance(candidates, Candidates):
            return candidates
        given = tuple(candidates)
        offers = Offers.of(
            [candidate.method for candidate in given],
            [candidate.size for candidate in given],
            {name: [getattr(candidate.cost, name) for candidate in given] for name in RESOURCES},
        )
        made = cls(offers, numpy.array([candidate.gain for candidate in given], dtype=numpy.float64))
        made._made = given
        return made

    def take(self, rows: "NDArray[Any]") -> "Candidates":
        """Some of the candidates, by position or by a mask."""
        return Candidates(self.offers.take(rows), self.gains[rows])

    def divided(self, method: str, factor: float) -> "Candidates":
        """The same, with the gains of one method divided by a factor."""
        gains = self.gains.copy()
        gains[self.offers.rows.get(method, slice(0))] /= factor
        return Candidates(self.offers, gains)

    def at(self, row: int) -> Candidate:
        """The candidate of one row."""
        if self._made is not None:
            return self._made[row]
        offers = self.offers
        return Candidate(
            method=offers.methods[offers.codes[row]],
            size=int(offers.sizes[row]),
            cost=Cost(**{name: amounts[row].item() for name, amounts in offers.amounts.items()}),
            gain=float(self.gains[row]),
        )

    @property
    def made(self) -> tuple[Candidate, ...]:
        """All candidates as objects, made once."""
        if self._made is None:
            offers = self.offers
            rows = zip(*(offers.amounts[name].tolist() for name in RESOURCES), strict=True)
            self._made = tuple(
                Candidate(
                    method=offers.methods[code],
                    size=size,
                    cost=Cost(params=params, flops=flops, memory=memory, latency=latency),
                    gain=gain,
                )
                for code, size, (params, flops, memory, latency), gain in zip(
                    offers.codes.tolist(), offers.sizes.tolist(), rows, self.gains.tolist(), strict=True
                )
            )
        return self._made

    def __len__(self) -> int:
        return len(self.gains)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self.made[index] if isinstance(index, slice) else self.at(index)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.made)

    def __eq__(self, other: object) -> bool:
        import numpy

        if not isinstance(other, Candidates):
            return NotImplemented
        return self.offers.same(other.offers) and numpy.array_equal(self.gains, other.gains)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Candidates({list(self.made)!r})"


def candidates_of(given: Iterable[Candidate]) -> Candidates:
    """See `Candidates.of`."""
    return Candidates.of(given)


@frozen(kw_only=True, eq=False)
class Table:
    """The candidates of many units, one below the other.

    units: the candidates of each.
    offsets: where each unit's rows begin, and the number of rows at the end; int64 [units + 1].
    unit: by row, the unit's place; int64 [rows].
    method: by row, the method's place in ``methods``; int64 [rows].
    methods: names.
    sizes: int64 [rows].
    amounts: by resource, the cost by row; as in `Offers`.
    gains: float64 [rows].
    """

    units: Sequence[Candidates]
    offsets: "Integers"
    unit: "Integers"
    method: "Integers"
    methods: tuple[str, ...]
    sizes: "Integers"
    amounts: "Mapping[str, NDArray[Any]]"
    gains: "Floats"

    @classmethod
    def of(cls, units: Sequence[Candidates]) -> "Table":
        """Of units in their order."""
        import numpy

        methods: dict[str, int] = {}
        codes: dict[int, Integers] = {}  # by the identity of what units share
        for unit in units:
            if id(unit.offers) not in codes:
                places = [methods.setdefault(method, len(methods)) for method in unit.offers.methods]
                codes[id(unit.offers)] = numpy.array(places, dtype=numpy.int64)[unit.offers.codes]
        lengths = numpy.array([len(unit) for unit in units], dtype=numpy.int64)

        def joined(parts: "list[NDArray[Any]]", kind: Any) -> "NDArray[Any]":
            return numpy.concatenate([numpy.empty(0, dtype=kind), *parts])

        return cls(
            units=units,
            offsets=numpy.concatenate([[0], lengths.cumsum()]).astype(numpy.int64),
            unit=numpy.repeat(numpy.arange(len(units)), lengths),
            method=joined([codes[id(unit.offers)] for unit in units], numpy.int64),
            methods=tuple(methods),
            sizes=joined([unit.offers.sizes for unit in units], numpy.int64),
            amounts={
                name: joined(
                    [unit.offers.amounts[name] for unit in units], numpy.int64 if name == "params" else numpy.float64
                )
                for name in RESOURCES
            },
            gains=joined([unit.gains for unit in units], numpy.float64),
        )

    def are(self, method: str) -> "NDArray[numpy.bool_]":
        """By row, whether it is of this method; bool [rows]."""
        found: NDArray[numpy.bool_] = self.method == (self.methods.index(method) if method in self.methods else -1)
        return found

    def candidate(self, row: int) -> Candidate:
        """The candidate of one row."""
        unit = int(self.unit[row])
        return self.units[unit].at(row - int(self.offsets[unit]))

    def candidate_name(self, row: int) -> tuple[str, int]:
        """The method and the size of one row."""
        return self.methods[self.method[row]], int(self.sizes[row])

    def take(self, rows: "NDArray[numpy.bool_]") -> "Table":
        """The rows that a mask says, of all units; ``units`` and `candidate` stay those of the whole table."""
        import numpy

        counted = numpy.concatenate([[0], rows.cumsum()])
        return Table(
            units=self.units,
            offsets=counted[self.offsets],
            unit=self.unit[rows],
            method=self.method[rows],
            methods=self.methods,
            sizes=self.sizes[rows],
            amounts={name: amounts[rows] for name, amounts in self.amounts.items()},
            gains=self.gains[rows],
        )
