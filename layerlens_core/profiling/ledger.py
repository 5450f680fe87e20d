"""The ledger: what was measured on every module and sample, by the sample's number.

Numbers by sample make all else simple. Writing one twice changes nothing, so a micro-batch that failed is run again and
an interrupted pass goes on where it stopped; workers fill in different columns; sums are exact and know no order; and
standard errors, folds and resamples need no further pass. It takes 8 bytes for each module and sample, and as many
for each module and group and kind of group statistic.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import NDArray

from layerlens_core.statistics import ModuleStatistics

Numbers = NDArray[np.float64]


@frozen(kw_only=True, eq=False)
class Entries:
    """What one micro-batch gave. losses: [samples]; norms: [modules, samples]; the others: [modules, groups].

    None stands for what was not asked for, and in the last groups for an incomplete group.
    """

    losses: Numbers
    norms: Numbers | None = None
    group_norms: Numbers | None = None
    weight_gradients: Numbers | None = None

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
    weight_gradients: mean |W ⊙ ḡ| [modules, groups]. None where it is not gathered.
    """

    modules: tuple[str, ...]
    samples: int
    group: int
    losses: Numbers
    norms: Numbers | None
    group_norms: Numbers | None
    weight_gradients: Numbers | None
    _rows: dict[str, int] = field(factory=dict, repr=False)

    @classmethod
    def empty(cls, modules: Sequence[str], samples: int, group: int, needs: Collection[str]) -> "Ledger":
        """A ledger for these statistics (`layerlens_core.statistics.STATISTICS`)."""

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
        samples = [sample for unit in units for sample in self.samples_of(unit)]
        full = [unit for unit in units if unit < self.groups]
        if self.norms is not None and entries.norms is not None:
            self.norms[:, samples] = entries.norms
        if full and self.group_norms is not None and entries.group_norms is not None:
            self.group_norms[:, full] = entries.group_norms
        if full and self.weight_gradients is not None and entries.weight_gradients is not None:
            self.weight_gradients[:, full] = entries.weight_gradients
        self.losses[samples] = entries.losses  # last, for it says that the unit is done

    def only(self, units: Collection[int]) -> "Ledger":
        """A copy that knows these units alone."""
        copy = self.upto(self.samples)
        others = [unit for unit in range(self.units) if unit not in units]
        samples = [sample for unit in others for sample in self.samples_of(unit)]
        full = [unit for unit in others if unit < self.groups]
        for table, columns in zip(copy._tables(), (samples, samples, full, full), strict=True):
            if table is not None:
                table[..., columns] = np.nan
        return copy

    def upto(self, samples: int) -> "Ledger":
        """A copy with the first samples alone."""
        groups = samples // self.group
        losses, norms, group_norms, products = self._tables()
        assert losses is not None
        return evolve(
            self,
            samples=samples,
            losses=losses[:samples].copy(),
            norms=None if norms is None else norms[:, :samples].copy(),
            group_norms=None if group_norms is None else group_norms[:, :groups].copy(),
            weight_gradients=None if products is None else products[:, :groups].copy(),
        )

    def merge(self, other: "Ledger") -> None:
        """Take over what another worker measured. Raises `ValueError` where the ledgers do not belong together."""
        if (self.modules, self.samples, self.group) != (other.modules, other.samples, other.group):
            raise ValueError("the ledgers are of different modules, samples or groups")
        for mine, theirs in zip(self._tables(), other._tables(), strict=True):
            if mine is not None and theirs is not None:
                np.copyto(mine, theirs, where=~np.isnan(theirs))

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
            spectrum=spectrum,
        )

    @property
    def loss(self) -> float:
        """Mean loss over the samples, in nats."""
        return math.fsum(self.losses.tolist()) / self.samples

    def _tables(self) -> tuple[Numbers | None, ...]:
        return self.losses, self.norms, self.group_norms, self.weight_gradients


def _sum(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(numbers.tolist())


def _sum_of_squares(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(number * number for number in numbers.tolist())
