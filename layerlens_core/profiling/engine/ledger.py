"""The ledger: what was measured on every module and sample, by the sample's number.

Numbers by sample make all else simple. Writing one twice changes nothing, so a micro-batch that failed is run again and
an interrupted pass goes on where it stopped; workers fill in different columns; sums are exact and know no order; and
standard errors, folds and resamples need no further pass. It takes 8 bytes for each module and sample, and as many
for each module and group and kind of group statistic.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import NDArray

from layerlens_core.values.statistics import ModuleStatistics, SketchError

Numbers = NDArray[np.float64]

#: Of what each table has a column. The losses are written last, for they say that a unit is done.
_COLUMNS = {
    "norms": "samples", "group_norms": "groups", "weight_gradients": "groups", "variances": "units",
    "group_variances": "groups", "losses": "samples",
}  # fmt: skip


@frozen(kw_only=True, eq=False)
class Entries:
    """What one micro-batch gave. losses: [samples]; norms: [modules, samples]; the others: [modules, groups], of
    which the variances also have one for an incomplete group.

    None stands for what was not asked for, and in the last groups for an incomplete group.
    """

    losses: Numbers
    norms: Numbers | None = None
    group_norms: Numbers | None = None
    weight_gradients: Numbers | None = None
    variances: Numbers | None = None
    group_variances: Numbers | None = None

    def not_finite(self) -> list[int]:
        """Rows of the modules of which some number is not finite."""
        tables = [table for table in (self.norms, self.group_norms, self.weight_gradients) if table is not None]
        finite = [np.isfinite(table).all(axis=1) for table in tables]
        return [int(row) for row in np.flatnonzero(~np.logical_and.reduce(finite))] if finite else []


@define(kw_only=True, eq=False)
class Ledger:
    """Numbers by module and sample or group; NaN until they are there.

    modules: names, one a row. samples: how many. group: consecutive samples in a group; the last ones may fill none.
    losses: ℓᵢ [samples]. norms: ‖gᵢ‖² [modules, samples]. group_norms: ‖ḡ‖² [modules, groups].
    weight_gradients: mean |W ⊙ ḡ| [modules, groups]. None where it is not gathered. variances, group_variances: where
    norms are sketched, what that adds to the variance of Σ‖gᵢ‖² over a unit [modules, units] and of ‖ḡ‖² [modules,
    groups]; 0 for modules whose numbers are exact. columns: of the random projections, 0 without.
    """

    modules: tuple[str, ...]
    samples: int
    group: int
    losses: Numbers
    norms: Numbers | None
    group_norms: Numbers | None
    weight_gradients: Numbers | None
    variances: Numbers | None = None
    group_variances: Numbers | None = None
    columns: int = 0
    _rows: dict[str, int] = field(factory=dict, repr=False)

    @classmethod
    def empty(
        cls, modules: Sequence[str], samples: int, group: int, needs: Collection[str], *, columns: int = 0
    ) -> "Ledger":
        """A ledger for these statistics (`layerlens_core.values.statistics.STATISTICS`)."""

        def blank(columns: int, *wanted_by: str) -> Numbers | None:
            return np.full((len(modules), columns), np.nan) if set(wanted_by) & set(needs) else None

        groups = samples // group
        return cls(
            modules=tuple(modules),
            samples=samples,
            group=group,
            losses=np.full(samples, np.nan),
            norms=blank(samples, "sample_norms", "gradient_norms"),
            group_norms=blank(groups, "gradient_norms"),
            weight_gradients=blank(groups, "weight_gradient"),
            variances=blank(-(-samples // group), "sample_norms", "gradient_norms") if columns else None,
            group_variances=blank(groups, "gradient_norms") if columns else None,
            columns=columns,
            rows={name: row for row, name in enumerate(modules)},
        )

    @property
    def groups(self) -> int:
        """Full groups."""
        return self.samples // self.group

    @property
    def units(self) -> int:
        """Pieces of work: the groups, and an incomplete one at the end where there is one."""
        return -(-self.samples // self.group)

    def samples_of(self, unit: int) -> range:
        """The samples' numbers of a unit."""
        return range(unit * self.group, min((unit + 1) * self.group, self.samples))

    def missing(self) -> list[int]:
        """Units that are still to be measured."""
        return [unit for unit in range(self.units) if np.isnan(self.losses[self.samples_of(unit)]).any()]

    def record(self, units: Sequence[int], entries: Entries) -> None:
        """Write what a micro-batch of these units gave, in their order."""
        columns = self._columns(units)
        for name, table in self.tables().items():
            found = getattr(entries, name)
            if found is not None and columns[_COLUMNS[name]]:
                table[..., columns[_COLUMNS[name]]] = found

    def only(self, units: Collection[int]) -> "Ledger":
        """A copy that knows these units alone."""
        copy = self.upto(self.samples)
        columns = self._columns([unit for unit in range(self.units) if unit not in units])
        for name, table in copy.tables().items():
            table[..., columns[_COLUMNS[name]]] = np.nan
        return copy

    def upto(self, samples: int) -> "Ledger":
        """A copy with the first samples alone."""
        counts = {"samples": samples, "units": -(-samples // self.group), "groups": samples // self.group}
        kept: dict[str, Any] = {
            name: table[..., : counts[_COLUMNS[name]]].copy() for name, table in self.tables().items()
        }
        return evolve(self, samples=samples, **kept)

    def merge(self, other: "Ledger") -> None:
        """Take over what another worker measured. Raises `ValueError` where the ledgers do not belong together."""
        if (self.modules, self.samples, self.group) != (other.modules, other.samples, other.group):
            raise ValueError("the ledgers are of different modules, samples or groups")
        mine = self.tables()
        for name, theirs in other.tables().items():
            if name in mine:
                np.copyto(mine[name], theirs, where=~np.isnan(theirs))

    def statistics(
        self, module: str, weights: int, *, groups: Sequence[int] | None = None, spectrum: tuple[float, ...] = ()
    ) -> ModuleStatistics:
        """The sums of one module, each rounded once (`math.fsum`), so that no order of the samples shows in them.

        weights: elements of W. groups: a fold, only these full groups and their samples.
        """
        row = self._rows[module]
        norms = group_norms = products = grouped = None
        if self.norms is not None:
            within = self.norms[row, : self.groups * self.group].reshape(self.groups, self.group)
            grouped = within.ravel() if groups is None else within[groups].ravel()
            norms = self.norms[row] if groups is None else grouped
        if self.group_norms is not None:
            group_norms = self.group_norms[row] if groups is None else self.group_norms[row, groups]
        if self.weight_gradients is not None:
            products = self.weight_gradients[row] if groups is None else self.weight_gradients[row, groups]
        return ModuleStatistics(
            module=module,
            weights=weights,
            samples=self.samples if groups is None else len(groups) * self.group,
            groups=self.groups if groups is None else len(groups),
            group_size=self.group,
            sum_squared_norm=_sum(norms),
            sum_fourth_power=_sum_of_squares(norms),
            sum_group_squared_norm=_sum(group_norms),
            sum_group_fourth_power=_sum_of_squares(group_norms),
            sum_grouped_squared_norm=_sum(grouped),
            sum_weight_gradient=_sum(products),
            sum_squared_weight_gradient=_sum_of_squares(products),
            squared_norm_error=self._error(self.variances, row, groups),
            group_squared_norm_error=self._error(self.group_variances, row, groups),
            spectrum=spectrum,
        )

    @property
    def loss(self) -> float:
        """Mean loss over the samples, in nats."""
        return math.fsum(self.losses.tolist()) / self.samples

    def tables(self) -> dict[str, Numbers]:
        """The tables that are gathered, by name."""
        return {name: table for name in _COLUMNS if (table := getattr(self, name)) is not None}

    def _columns(self, units: Collection[int]) -> dict[str, list[int]]:
        """The columns of these units in every kind of table."""
        return {
            "samples": [sample for unit in units for sample in self.samples_of(unit)],
            "units": list(units),
            "groups": [unit for unit in units if unit < self.groups],
        }

    def replace(self, exact: "Ledger") -> None:
        """Take exact numbers for the modules that the other ledger has, in place of sketched ones."""
        rows = [self._rows[module] for module in exact.modules]
        for mine, theirs in ((self.norms, exact.norms), (self.group_norms, exact.group_norms)):
            if mine is not None and theirs is not None:
                mine[rows] = theirs
        for variances in (self.variances, self.group_variances):
            if variances is not None:
                variances[rows] = 0.0

    def _error(self, variances: Numbers | None, row: int, groups: Sequence[int] | None) -> SketchError | None:
        """Of the sum over all units, or over these groups, whose projections are independent."""
        if variances is None or not variances[row].any():
            return None
        each = variances[row] if groups is None else variances[row, groups]
        total = math.fsum(each.tolist())
        squares = _sum_of_squares(each)
        # Welch and Satterthwaite, with k − 1 degrees of freedom for a unit of k columns.
        freedom = (self.columns - 1) * total**2 / squares if squares else float(self.columns - 1)
        return SketchError(total, freedom)


def _sum(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(numbers.tolist())


def _sum_of_squares(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(number * number for number in numbers.tolist())
