"""Collect what a tap hears on one module in a micro-batch, and reduce it to a few numbers a sample."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.engine.ledger import Entries, Ledger, Numbers
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.routes import Route, Wanted, cheapest, fusible, reduce
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_core.profiling.gradients.sketches import Projector, Sketched, column_squares
from layerlens_core.profiling.model.samples import Sample

if TYPE_CHECKING:
    from layerlens_core.profiling.gradients.triton import Tiling


@frozen
class BatchShape:
    """The number of samples of a micro-batch, and the lengths of its sequences."""

    samples: int
    lengths: frozenset[int]

    @classmethod
    def of(cls, batch: Sample) -> "BatchShape":
        lengths = frozenset(value.shape[1] for value in batch.values() if value.dim() == 2)
        return cls(len(next(iter(batch.values()))), lengths)

    def by_sample(self, rows: Tensor) -> Tensor | None:
        """What a module got or gave as [samples, tokens, features]; None where rows have lost their sample.

        Some models fold [samples, tokens] into one dimension before a linear module, which can be undone.
        A router that sends tokens to experts cannot, unless there is a single sample.
        """
        if rows.dim() >= 3 and rows.shape[0] == self.samples:
            return rows.flatten(1, -2)
        if rows.dim() == 2 and rows.shape[0] == self.samples:
            return rows[:, None]
        folded = {self.samples * length for length in self.lengths}
        if rows.dim() == 2 and (self.samples == 1 or rows.shape[0] in folded):
            return rows.reshape(self.samples, -1, rows.shape[-1])
        return None


@define(kw_only=True, eq=False)
class Tables:
    """The numbers of one piece of work on one device, float64; modules that the loss does not reach keep their zeros.

    norms: ‖gᵢ‖² [modules, samples]. group_norms: ‖Σ gᵢ‖² [modules, groups]. products: Σ |W ⊙ Σ gᵢ| [modules, groups].
    variances, group_variances: what sketching adds to that of Σ‖gᵢ‖² [modules, units] and of ‖Σ gᵢ‖² [modules, groups].
    """

    norms: Tensor
    group_norms: Tensor
    products: Tensor
    variances: Tensor
    group_variances: Tensor


@define(kw_only=True, eq=False)
class Block:
    """The numbers of one piece of work, on the devices where they arise, until all are fetched at once."""

    ledger: Ledger
    samples: int
    group: int
    _parts: dict[torch.device, tuple[Tensor, Tables]] = field(factory=dict)
    _tiles: "dict[Tiling, list[tuple[int, Tensor]]]" = field(factory=dict)
    _sketched: dict[torch.device, list[tuple[int, Tensor, Tensor]]] = field(factory=dict)

    @property
    def _widths(self) -> list[int]:
        groups = self.samples // self.group
        return [self.samples, groups, groups, max(groups, 1), groups]

    def on(self, device: torch.device) -> Tables:
        """The tables on a device."""
        if device not in self._parts:
            shape = (len(self.ledger.modules), sum(self._widths))
            whole = torch.zeros(shape, dtype=torch.float64, device=device)
            self._parts[device] = whole, self._tables(whole)
        return self._parts[device][1]

    def sketched(self, row: int, singly: Tensor, together: Tensor) -> None:
        """A module's column norms; what follows from them is computed for all modules at once."""
        self._sketched.setdefault(singly.device, []).append((row, singly, together))

    def defer(self, row: int, tiling: "Tiling", found: Tensor) -> None:
        """A module's sums of tiles, of which likewise norms are made for all modules at once."""
        self._tiles.setdefault(tiling, []).append((row, found))

    def _settle(self) -> None:
        for tiling, parts in self._tiles.items():
            from layerlens_core.profiling.gradients.triton import totals

            tables = self.on(tiling.table.device)
            numbers = torch.tensor([row for row, _ in parts])
            norms, group_norms = totals(torch.stack([found for _, found in parts]), tiling)
            tables.norms[numbers] = norms
            if tiling.samples == self.group and self.samples >= self.group:
                tables.group_norms[numbers] = group_norms
        self._tiles.clear()
        for device, entries in self._sketched.items():
            rows = torch.tensor([row for row, _, _ in entries])
            found = Sketched.of(
                torch.stack([singly for _, singly, _ in entries]), torch.stack([together for *_, together in entries])
            )
            tables = self.on(device)
            tables.norms[rows], tables.variances[rows] = found.norms, found.variances
            if self.samples >= self.group:
                tables.group_norms[rows], tables.group_variances[rows] = found.group_norms, found.group_variances
        self._sketched.clear()

    def fetch(self, losses: Tensor, weights: Tensor) -> Entries:
        """All numbers on the CPU, by one transfer a device. weights: elements of each module's weight [modules]."""
        self._settle()
        nothing = torch.zeros((len(self.ledger.modules), sum(self._widths)), dtype=torch.float64)
        found = self._tables(torch.stack([nothing, *(whole.cpu() for whole, _ in self._parts.values())]).sum(dim=0))
        size = self.group if self.samples >= self.group else 1
        return Entries(
            losses=_numbers(losses),
            norms=_numbers(found.norms),
            group_norms=_numbers(found.group_norms / size**2),
            weight_gradients=_numbers(found.products / (size * weights[:, None])),
            variances=_numbers(found.variances),
            group_variances=_numbers(found.group_variances / size**4),
        )

    def _tables(self, whole: Tensor) -> Tables:
        norms, group_norms, products, variances, group_variances = torch.split(whole, self._widths, dim=1)
        return Tables(
            norms=norms, group_norms=group_norms, products=products, variances=variances,
            group_variances=group_variances,
        )  # fmt: skip


def _numbers(tensor: Tensor) -> Numbers:
    result: Numbers = tensor.to("cpu", torch.float64).numpy()
    return result


@define(kw_only=True, eq=False)
class Recorder:
    """One module's part of the pass.

    row: the module's in the ledger. weight: gives W [out, in], where mean |W ⊙ ḡ| is wanted. sharers: modules that are
    likely to share the input, by which the work is reckoned. finder: gathers the mean gradient's sketches. projector:
    where the norms are sketched.

    Calls of one micro-batch are joined along the tokens: a module that runs several times, as in ALBERT, has
    one weight gradient, the sum over its calls. Where a micro-batch is smaller than a group, the rows of the group's
    earlier samples are kept until it is complete.
    """

    name: str
    row: int
    weight: Callable[[], Tensor] | None
    wanted: Wanted
    route: Route | None
    sharers: int
    finder: RangeFinder | None
    shared: SharedInputs[Rows]
    projector: Projector | None = None

    _units: frozenset[int] = frozenset()
    _found_in: frozenset[int] = frozenset()
    _block: Block | None = None
    _last: bool = True
    _first: int = 0
    _carried: list[tuple[int, Tensor, Tensor]] = field(factory=list)

    _shape: BatchShape = BatchShape(0, frozenset())
    _in_forward: bool = False
    _calls: int = 0
    # Inputs as they came, by which sharers are known; inputs and gradients by sample.
    _pending: list[tuple[Tensor, Tensor, Tensor]] = field(factory=list)

    _called: bool = False
    _reached: bool = False
    _lost_shape: tuple[int, ...] | None = None

    def start(self, units: frozenset[int], block: Block) -> None:
        """A piece of work begins, perhaps again after it failed."""
        self._units, self._block = units, block
        self._carried.clear()

    def begin(self, shape: BatchShape, *, first: int, last: bool) -> None:
        """A forward pass begins. first: its first sample's place in the piece of work. last: none follows."""
        self._shape, self._in_forward, self._calls = shape, True, 0
        self._first, self._last = first, last
        self._pending.clear()

    def count_call(self) -> None:
        """The module's forward ran; recomputation under checkpointing, in the backward pass, is no new call."""
        if self._in_forward:
            self._called = True
            self._calls += 1

    def forward_is_over(self) -> None:
        """The backward pass begins."""
        self._in_forward = False

    def project(self, inputs: Tensor) -> Tensor:
        """What is kept of a call's inputs [..., in] where norms are sketched: aᵢΩ [samples, T, k]."""
        assert self.projector is not None
        rows = self._shape.by_sample(inputs)
        if rows is None:
            return inputs.new_empty((*inputs.shape[:-1], 0))  # `receive` will see to it
        return self.projector.project(inputs, rows)

    def receive(self, inputs: Tensor, gradients: Tensor) -> None:
        """One call's inputs [..., in], or what was kept of them, and output gradients [..., out].

        Reduced once all calls have come.
        """
        self._reached = True
        if self._lost_shape is not None:
            return
        inputs = inputs.detach()
        x, d = self._shape.by_sample(inputs), self._shape.by_sample(gradients.detach())
        if x is None or d is None:
            self._lost_shape = tuple(inputs.shape)
            return
        self._pending.append((inputs, x, d))
        if len(self._pending) == self._calls:
            self._collected()

    def finish(self) -> None:
        """The backward pass is over."""
        if self._pending:  # some calls' outputs do not reach the loss
            self._collected()
        elif self._last and self._carried:  # nothing came from the group's last samples
            self._reduce(*self._joined())

    def drop(self) -> None:
        """Let go of all tensors; the piece of work failed, or the pass is over."""
        self._pending.clear()
        self._carried.clear()
        self._block = None
        self.shared.forget()
        if self.projector is not None:
            self.projector.forget()

    def _collected(self) -> None:
        """All calls of this micro-batch are there."""
        if len(self._pending) == 1 and self._last and not self._carried:
            ((inputs, x, d),) = self._pending
            self._pending.clear()
            rows = self.shared.find(inputs) if self.projector is None else Rows(x)
            if rows is None:
                rows = self.shared.remember(inputs, Rows(x))
            self._reduce(rows, Rows(d))
            return
        inputs = torch.cat([x for _, x, _ in self._pending], dim=1)
        gradients = torch.cat([d for *_, d in self._pending], dim=1)
        self._pending.clear()
        self._carried.append((self._first, inputs, gradients))
        if self._last:
            self._reduce(*self._joined())

    def _joined(self) -> tuple[Rows, Rows]:
        """The rows of all samples of the piece of work, padded with zeros to one length."""
        assert self._block is not None
        longest = max(inputs.shape[1] for _, inputs, _ in self._carried)
        _, *like = self._carried[0]
        joined = [part.new_zeros(self._block.samples, longest, part.shape[2]) for part in like]
        for first, *parts in self._carried:
            for whole, part in zip(joined, parts, strict=True):
                whole[first : first + len(part), : part.shape[1]] = part
        self._carried.clear()
        return Rows(joined[0]), Rows(joined[1])

    def _reduce(self, inputs: Rows, gradients: Rows) -> None:
        block, x, d = self._block, inputs.rows, gradients.rows
        assert block is not None
        group = min(block.group, len(x))
        if self.projector is not None:
            block.sketched(self.row, *column_squares(x, d, group))
            return
        tables = block.on(d.device)
        whole = block.samples >= block.group  # else the group is incomplete and has no numbers of its own
        route = self.route or cheapest(
            self.wanted, group=group, tokens=x.shape[1], inputs=x.shape[2], outputs=d.shape[2],
            sharers=self.sharers, device=x.device.type, fused=fusible(x, d),
        )  # fmt: skip
        # Sums, unlike the ledger, must not get a sample twice: work that failed half-way is done again in parts.
        finder = None if self._units <= self._found_in else self.finder
        total = finder.total(inputs.wide) if finder is not None and self._formed(finder, route, x, d) else None
        if self.wanted.norms or self.wanted.group_sums:
            found = reduce(
                inputs, gradients, group=group, wanted=self.wanted, route=route,
                weight=self.weight() if whole and self.weight is not None else None, total=total,
                defer=lambda tiling, found: block.defer(self.row, tiling, found),
            )  # fmt: skip
            if found.norms is not None:
                tables.norms[self.row] = found.norms
            if found.group_norms is not None and whole:
                tables.group_norms[self.row] = found.group_norms
            if found.weighted is not None:
                tables.products[self.row] = found.weighted
        if finder is not None:
            if total is not None:
                finder.add_gradient(total)
            else:
                finder.add(inputs.factor, gradients.factor)
            self._found_in = self._units

    def _formed(self, finder: RangeFinder, route: Route, x: Tensor, d: Tensor) -> bool:
        """Whether the finder gets the gradient itself, as it is formed for a metric anyway.

        Its sketches are made of it where that is less work than of the rows.
        """
        asked = self.wanted.norms or self.wanted.group_sums
        if not asked or route not in ("direct", "mixed") or fusible(x, d):  # kernels form none
            return False
        inputs, outputs = x.shape[2], d.shape[2]
        return finder.exact or inputs * outputs < len(x) * x.shape[1] * (inputs + outputs)

    @property
    def seen(self) -> tuple[bool, bool, tuple[int, ...] | None]:
        """Whether it was called, whether the loss reaches it, and an input that lost its samples' dimension."""
        return self._called, self._reached, self._lost_shape

    @seen.setter
    def seen(self, seen: tuple[bool, bool, tuple[int, ...] | None]) -> None:
        self._called, self._reached, self._lost_shape = seen

    @property
    def why_unscored(self) -> str | None:
        """Why the module has no score, or None where it has one."""
        if not self._called:
            return "never called in the forward pass"
        if self._lost_shape is not None:
            shape = " × ".join(map(str, self._lost_shape[:-1]))
            return f"its inputs of {shape} rows have lost the batch dimension; profile with micro_batch=1"
        return None if self._reached else "its output does not reach the loss"
