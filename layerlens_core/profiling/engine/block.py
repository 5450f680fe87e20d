"""The numbers of one piece of work, on the devices where they arise, until all are fetched at once."""

from typing import TYPE_CHECKING

import torch
from attrs import define, field
from torch import Tensor

from layerlens_core.profiling.engine.ledger import Entries, Numbers
from layerlens_core.profiling.gradients.sketches import Sketched

if TYPE_CHECKING:
    from layerlens_core.profiling.gradients.triton import Tiling


@define(kw_only=True, eq=False)
class Tables:
    """The numbers on one device, float64; modules that the loss does not reach keep their zeros.

    sample_squared_norms: ‖gᵢ‖² [modules, samples].
    group_sum_squared_norms: ‖Σ gᵢ‖² [modules, groups].
    weighted_sums: Σ |W ⊙ Σ gᵢ| [modules, groups].
    sketch_variances: what sketching adds to the variance of Σ‖gᵢ‖² [modules, chunks].
    group_sketch_variances: what sketching adds to the variance of ‖Σ gᵢ‖² [modules, groups].
    """

    sample_squared_norms: Tensor
    group_sum_squared_norms: Tensor
    weighted_sums: Tensor
    sketch_variances: Tensor
    group_sketch_variances: Tensor


@define(kw_only=True, eq=False)
class Block:
    """What the recorders of all modules write to during one piece of work.

    modules: how many.
    samples: how many.
    group_size: samples in a group; a piece with fewer samples holds one incomplete group.
    """

    modules: int
    samples: int
    group_size: int
    _parts: dict[torch.device, tuple[Tensor, Tables]] = field(factory=dict)
    _tiles: "dict[Tiling, list[tuple[int, Tensor]]]" = field(factory=dict)
    _sketched: dict[torch.device, list[tuple[int, Tensor, Tensor]]] = field(factory=dict)

    @property
    def has_groups(self) -> bool:
        """Whether there are full groups, so that there are numbers of groups."""
        return self.samples >= self.group_size

    @property
    def _widths(self) -> list[int]:
        groups = self.samples // self.group_size
        return [self.samples, groups, groups, max(groups, 1), groups]

    def on(self, device: torch.device) -> Tables:
        """The tables on a device."""
        if device not in self._parts:
            shape = (self.modules, sum(self._widths))
            whole = torch.zeros(shape, dtype=torch.float64, device=device)
            self._parts[device] = whole, self._tables(whole)
        return self._parts[device][1]

    def defer_sketch(self, row: int, of_samples: Tensor, of_groups: Tensor) -> None:
        """Take a module's squared column norms; the estimates from them are computed for all modules at once.

        row: the module's.
        of_samples: ‖gᵢω‖² for every column ω [samples, k].
        of_groups: ‖Σ gᵢω‖² for every column ω [groups, k].
        """
        self._sketched.setdefault(of_samples.device, []).append((row, of_samples, of_groups))

    def defer_tiles(self, row: int, tiling: "Tiling", found: Tensor) -> None:
        """Take a module's sums of tiles; the squared norms from them, too, are computed for all modules at once.

        row: the module's.
        tiling: which tiles there are.
        found: their sums [groups, tiles].
        """
        self._tiles.setdefault(tiling, []).append((row, found))

    def fetch(self, losses: Tensor, weights: Tensor) -> Entries:
        """All numbers on the CPU, by one transfer a device.

        losses: ℓᵢ [samples].
        weights: elements of each module's weight [modules].
        """
        self._compute_tiles()
        self._compute_sketches()
        nothing = torch.zeros((self.modules, sum(self._widths)), dtype=torch.float64)
        found = self._tables(torch.stack([nothing, *(whole.cpu() for whole, _ in self._parts.values())]).sum(dim=0))
        size = self.group_size if self.has_groups else 1
        return Entries(
            losses=_numbers(losses),
            sample_squared_norms=_numbers(found.sample_squared_norms),
            group_mean_squared_norms=_numbers(found.group_sum_squared_norms / size**2),
            weight_gradients=_numbers(found.weighted_sums / (size * weights[:, None])),
            sketch_variances=_numbers(found.sketch_variances),
            group_sketch_variances=_numbers(found.group_sketch_variances / size**4),
        )

    def _compute_tiles(self) -> None:
        for tiling, parts in self._tiles.items():
            from layerlens_core.profiling.gradients.triton import totals

            tables = self.on(tiling.table.device)
            rows = torch.tensor([row for row, _ in parts])
            of_samples, of_groups = totals(torch.stack([found for _, found in parts]), tiling)
            tables.sample_squared_norms[rows] = of_samples
            if tiling.samples == self.group_size and self.has_groups:
                tables.group_sum_squared_norms[rows] = of_groups
        self._tiles.clear()

    def _compute_sketches(self) -> None:
        for device, entries in self._sketched.items():
            rows = torch.tensor([row for row, *_ in entries])
            found = Sketched.of(
                torch.stack([of_samples for _, of_samples, _ in entries]),
                torch.stack([of_groups for *_, of_groups in entries]),
            )
            tables = self.on(device)
            tables.sample_squared_norms[rows] = found.sample_squared_norms
            tables.sketch_variances[rows] = found.variances
            if self.has_groups:
                tables.group_sum_squared_norms[rows] = found.group_sum_squared_norms
                tables.group_sketch_variances[rows] = found.group_variances
        self._sketched.clear()

    def _tables(self, whole: Tensor) -> Tables:
        singly, grouped, weighted, variances, group_variances = torch.split(whole, self._widths, dim=1)
        return Tables(
            sample_squared_norms=singly,
            group_sum_squared_norms=grouped,
            weighted_sums=weighted,
            sketch_variances=variances,
            group_sketch_variances=group_variances,
        )


def _numbers(tensor: Tensor) -> Numbers:
    result: Numbers = tensor.to("cpu", torch.float64).numpy()
    return result
