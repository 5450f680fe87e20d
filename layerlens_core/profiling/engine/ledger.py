"""The ledger: what was measured on every module and sample, by the sample's number.

Because numbers are kept by sample, the rest is simple. Writing one twice changes nothing, so a micro-batch that failed
is run again and an interrupted pass goes on where it stopped; workers fill in different columns; sums are exact and do
not depend on order; and standard errors, folds and resamples need no further pass. The ledger takes 8 bytes for each
module and sample, and 8 for each module, group and group statistic.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import NDArray

from layerlens_core.values.statistics import ModuleStatistics, SketchError

Numbers = NDArray[np.float64]

#: What the last axis of each table counts. The losses are written last, for they say that a chunk is done.
_AXES = {
    "sample_squared_norms": "samples", "group_mean_squared_norms": "groups", "weight_gradients": "groups",
    "sketch_variances": "chunks", "group_sketch_variances": "groups", "losses": "samples",
}  # fmt: skip


@frozen(kw_only=True, eq=False)
class Entries:
    """What one piece of work gave, in the order of its chunks; None stands for what was not asked for.

    losses: ℓᵢ [samples].
    sample_squared_norms: ‖gᵢ‖² [modules, samples].
    group_mean_squared_norms: ‖ḡ‖² [modules, groups].
    weight_gradients: mean |W ⊙ ḡ| [modules, groups].
    sketch_variances: as in `Ledger` [modules, chunks].
    group_sketch_variances: as in `Ledger` [modules, groups].
    """

    losses: Numbers
    sample_squared_norms: Numbers | None = None
    group_mean_squared_norms: Numbers | None = None
    weight_gradients: Numbers | None = None
    sketch_variances: Numbers | None = None
    group_sketch_variances: Numbers | None = None

    def not_finite(self) -> list[int]:
        """Rows of the modules that have a number that is not finite."""
        tables = (self.sample_squared_norms, self.group_mean_squared_norms, self.weight_gradients)
        finite = [np.isfinite(table).all(axis=1) for table in tables if table is not None]
        return [int(row) for row in np.flatnonzero(~np.logical_and.reduce(finite))] if finite else []


@define(kw_only=True, eq=False)
class Ledger:
    """Numbers by module and sample or group; NaN until they are there, None where they are not gathered.

    A *chunk* is a group of consecutive samples, or what is left at the end and fills none.

    modules: names, one a row.
    samples: how many.
    group_size: samples in a group.
    losses: ℓᵢ [samples].
    sample_squared_norms: ‖gᵢ‖² [modules, samples].
    group_mean_squared_norms: ‖ḡ‖² [modules, groups].
    weight_gradients: mean |W ⊙ ḡ| [modules, groups].
    sketch_variances: where squared norms are sketched, what that adds to the variance of Σ‖gᵢ‖² over a chunk [modules,
        chunks]; 0 for modules whose numbers are exact.
    group_sketch_variances: likewise, what it adds to the variance of ‖ḡ‖² [modules, groups].
    sketch_columns: of the random projections; 0 where nothing is sketched.
    """

    modules: tuple[str, ...]
    samples: int
    group_size: int
    losses: Numbers
    sample_squared_norms: Numbers | None
    group_mean_squared_norms: Numbers | None
    weight_gradients: Numbers | None
    sketch_variances: Numbers | None = None
    group_sketch_variances: Numbers | None = None
    sketch_columns: int = 0
    _rows: dict[str, int] = field(factory=dict, repr=False)

    @classmethod
    def empty(
        cls,
        modules: Sequence[str],
        samples: int,
        group_size: int,
        needs: Collection[str],
        *,
        sketch_columns: int = 0,
    ) -> "Ledger":
        """A ledger without numbers yet.

        modules: names, one a row.
        samples: how many.
        group_size: samples in a group.
        needs: the statistics to hold (`layerlens_core.values.statistics.STATISTICS`).
        sketch_columns: of the random projections; 0 where nothing is sketched.
        """

        def blank(count: int, *wanted_by: str) -> Numbers | None:
            return np.full((len(modules), count), np.nan) if set(wanted_by) & set(needs) else None

        groups, chunks = samples // group_size, -(-samples // group_size)
        return cls(
            modules=tuple(modules),
            samples=samples,
            group_size=group_size,
            losses=np.full(samples, np.nan),
            sample_squared_norms=blank(samples, "sample_norms", "gradient_norms"),
            group_mean_squared_norms=blank(groups, "gradient_norms"),
            weight_gradients=blank(groups, "weight_gradient"),
            sketch_variances=blank(chunks, "sample_norms", "gradient_norms") if sketch_columns else None,
            group_sketch_variances=blank(groups, "gradient_norms") if sketch_columns else None,
            sketch_columns=sketch_columns,
            rows={name: row for row, name in enumerate(modules)},
        )

    @property
    def groups(self) -> int:
        """The number of full groups."""
        return self.samples // self.group_size

    @property
    def chunks(self) -> int:
        """The number of chunks: the full groups, and one more where samples are left at the end."""
        return -(-self.samples // self.group_size)

    def samples_of(self, chunk: int) -> range:
        """The numbers of a chunk's samples."""
        return range(chunk * self.group_size, min((chunk + 1) * self.group_size, self.samples))

    def missing(self) -> list[int]:
        """Chunks that are still to be measured."""
        return [chunk for chunk in range(self.chunks) if np.isnan(self.losses[self.samples_of(chunk)]).any()]

    def record(self, chunks: Sequence[int], entries: Entries) -> None:
        """Write what a piece of work gave.

        chunks: of which it was made, in their order.
        entries: its numbers.
        """
        places = self._places(chunks)
        for name, table in self.tables().items():
            found = getattr(entries, name)
            if found is not None and places[_AXES[name]]:
                table[..., places[_AXES[name]]] = found

    def only(self, chunks: Collection[int]) -> "Ledger":
        """A copy that holds numbers for these chunks alone."""
        copy = self.upto(self.samples)
        places = self._places([chunk for chunk in range(self.chunks) if chunk not in chunks])
        for name, table in copy.tables().items():
            table[..., places[_AXES[name]]] = np.nan
        return copy

    def upto(self, samples: int) -> "Ledger":
        """A copy with the first samples alone."""
        counts = {
            "samples": samples, "chunks": -(-samples // self.group_size), "groups": samples // self.group_size,
        }  # fmt: skip
        kept: dict[str, Any] = {name: table[..., : counts[_AXES[name]]].copy() for name, table in self.tables().items()}
        return evolve(self, samples=samples, **kept)

    def merge(self, other: "Ledger") -> None:
        """Copy in what another worker measured. Raises `ValueError` where the ledgers do not belong together."""
        if (self.modules, self.samples, self.group_size) != (other.modules, other.samples, other.group_size):
            raise ValueError("the ledgers are of different modules, samples or groups")
        mine = self.tables()
        for name, theirs in other.tables().items():
            if name in mine:
                np.copyto(mine[name], theirs, where=~np.isnan(theirs))

    def statistics(
        self, module: str, weights: int, *, groups: Sequence[int] | None = None, spectrum: tuple[float, ...] = ()
    ) -> ModuleStatistics:
        """The sums of one module, each rounded once (`math.fsum`), so that they do not depend on the samples' order.

        module: its name.
        weights: elements of W.
        groups: a fold: only these full groups and their samples; None takes all.
        spectrum: singular values to put in.
        """
        row, within_groups = self._rows[module], self.groups * self.group_size
        singly = of_groups = products = grouped = None
        if self.sample_squared_norms is not None:
            by_group = self.sample_squared_norms[row, :within_groups].reshape(self.groups, self.group_size)
            grouped = by_group.ravel() if groups is None else by_group[groups].ravel()
            singly = self.sample_squared_norms[row] if groups is None else grouped
        if self.group_mean_squared_norms is not None:
            of_groups = self.group_mean_squared_norms[row]
            of_groups = of_groups if groups is None else of_groups[groups]
        if self.weight_gradients is not None:
            products = self.weight_gradients[row] if groups is None else self.weight_gradients[row, groups]
        return ModuleStatistics(
            module=module,
            weights=weights,
            samples=self.samples if groups is None else len(groups) * self.group_size,
            groups=self.groups if groups is None else len(groups),
            group_size=self.group_size,
            sum_squared_norm=_sum(singly),
            sum_fourth_power=_sum_of_squares(singly),
            sum_group_mean_squared_norm=_sum(of_groups),
            sum_group_mean_fourth_power=_sum_of_squares(of_groups),
            sum_grouped_squared_norm=_sum(grouped),
            sum_weight_gradient=_sum(products),
            sum_squared_weight_gradient=_sum_of_squares(products),
            squared_norm_error=self._error(self.sketch_variances, row, groups),
            group_mean_squared_norm_error=self._error(self.group_sketch_variances, row, groups),
            spectrum=spectrum,
        )

    @property
    def loss(self) -> float:
        """Mean loss over the samples, in nats."""
        return math.fsum(self.losses.tolist()) / self.samples

    def tables(self) -> dict[str, Numbers]:
        """The tables that are gathered, by name."""
        return {name: table for name in _AXES if (table := getattr(self, name)) is not None}

    def _places(self, chunks: Collection[int]) -> dict[str, list[int]]:
        """The places of these chunks along every axis that a table can have."""
        return {
            "samples": [sample for chunk in chunks for sample in self.samples_of(chunk)],
            "chunks": list(chunks),
            "groups": [chunk for chunk in chunks if chunk < self.groups],
        }

    def replace(self, exact: "Ledger") -> None:
        """Take the exact numbers of the other ledger for the modules that it has, in place of the sketched ones."""
        rows = [self._rows[module] for module in exact.modules]
        for mine, theirs in (
            (self.sample_squared_norms, exact.sample_squared_norms),
            (self.group_mean_squared_norms, exact.group_mean_squared_norms),
        ):
            if mine is not None and theirs is not None:
                mine[rows] = theirs
        for variances in (self.sketch_variances, self.group_sketch_variances):
            if variances is not None:
                variances[rows] = 0.0

    def _error(self, variances: Numbers | None, row: int, groups: Sequence[int] | None) -> SketchError | None:
        """The sketching error of the sum over all chunks, or over these groups, each with projections of its own."""
        if variances is None or not variances[row].any():
            return None
        each = variances[row] if groups is None else variances[row, groups]
        total = math.fsum(each.tolist())
        squares = _sum_of_squares(each)
        # Welch and Satterthwaite, with k − 1 degrees of freedom for a chunk of k columns.
        freedom = (self.sketch_columns - 1) * total**2 / squares if squares else float(self.sketch_columns - 1)
        return SketchError(total, freedom)


def _sum(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(numbers.tolist())


def _sum_of_squares(numbers: Numbers | None) -> float | None:
    return None if numbers is None else math.fsum(number * number for number in numbers.tolist())
