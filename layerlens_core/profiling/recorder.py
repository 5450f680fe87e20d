"""Collect what a tap hears on one module in a micro-batch, and reduce it to a few numbers a sample."""

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.directions import RangeFinder
from layerlens_core.profiling.ledger import Entries, Ledger, Numbers
from layerlens_core.profiling.products import Route, Rows, Wanted, cheapest, reduce
from layerlens_core.profiling.samples import Sample
from layerlens_core.profiling.shared_inputs import SharedInputs


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
class Block:
    """The numbers of one piece of work, on the devices where they arise, until all are fetched at once.

    shape: modules, samples and groups. Modules that the loss does not reach keep their zeros.
    """

    ledger: Ledger
    samples: int
    group: int
    _parts: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(factory=dict)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """‖gᵢ‖² [modules, samples], ‖Σ gᵢ‖² [modules, groups] and Σ |W ⊙ Σ gᵢ| [modules, groups] on a device."""
        if device not in self._parts:
            rows, groups = len(self.ledger.modules), self.samples // self.group
            shapes = ((rows, self.samples), (rows, groups), (rows, groups))
            norms, group_norms, products = (torch.zeros(s, dtype=torch.float64, device=device) for s in shapes)
            self._parts[device] = (norms, group_norms, products)
        return self._parts[device]

    def fetch(self, losses: Tensor, weights: Tensor) -> Entries:
        """All numbers on the CPU, by one transfer a device. weights: elements of each module's weight [modules]."""
        widths = [self.samples, self.samples // self.group, self.samples // self.group]
        together = torch.cat(
            [torch.cat(part, dim=1).cpu()[None] for part in self._parts.values()] or [_nothing(self, widths)]
        )
        norms, group_norms, products = torch.split(together.sum(dim=0), widths, dim=1)
        size = self.group if self.samples >= self.group else 1
        return Entries(
            losses=_numbers(losses),
            norms=_numbers(norms),
            group_norms=_numbers(group_norms / size**2),
            weight_gradients=_numbers(products / (size * weights[:, None])),
        )


def _nothing(block: Block, widths: list[int]) -> Tensor:
    return torch.zeros((1, len(block.ledger.modules), sum(widths)), dtype=torch.float64)


def _numbers(tensor: Tensor) -> Numbers:
    result: Numbers = tensor.to("cpu", torch.float64).numpy()
    return result


@define(kw_only=True, eq=False)
class Recorder:
    """One module's part of the pass.

    row: the module's in the ledger. weight: [out, in], where mean |W ⊙ ḡ| is wanted. sharers: modules that are likely
    to share the input, by which the work is reckoned. finder: gathers the mean gradient's sketches.

    Calls of one micro-batch are joined along the tokens: a module that runs several times, as in ALBERT, has
    one weight gradient, the sum over its calls. Where a micro-batch is smaller than a group, the rows of the group's
    earlier samples are kept until it is complete.
    """

    name: str
    row: int
    weight: Tensor | None
    wanted: Wanted
    route: Route | None
    sharers: int
    finder: RangeFinder | None
    shared: SharedInputs

    _units: frozenset[int] = frozenset()
    _found_in: frozenset[int] = frozenset()
    _block: Block | None = None
    _last: bool = True
    _first: int = 0
    _carried: list[tuple[int, Tensor, Tensor]] = field(factory=list)

    _shape: BatchShape = BatchShape(0, frozenset())
    _in_forward: bool = False
    _calls: int = 0
    _pending: list[tuple[Tensor, Tensor]] = field(factory=list)

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

    def receive(self, inputs: Tensor, gradients: Tensor) -> None:
        """One call's inputs [..., in] and output gradients [..., out]; reduced once all calls have come."""
        self._reached = True
        if self._shape.by_sample(inputs) is None or self._shape.by_sample(gradients) is None:
            self._lost_shape = tuple(inputs.shape)
            return
        self._pending.append((inputs.detach(), gradients.detach()))
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

    def _collected(self) -> None:
        """All calls of this micro-batch are there."""
        if len(self._pending) == 1 and self._last and not self._carried:
            ((inputs, gradients),) = self._pending
            self._pending.clear()
            rows = self.shared.find(inputs)
            if rows is None:
                rows = self.shared.remember(inputs, Rows(self._rows(inputs)))
            self._reduce(rows, Rows(self._rows(gradients)))
            return
        inputs = torch.cat([self._rows(x) for x, _ in self._pending], dim=1)
        gradients = torch.cat([self._rows(d) for _, d in self._pending], dim=1)
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

    def _rows(self, tensor: Tensor) -> Tensor:
        rows = self._shape.by_sample(tensor)
        assert rows is not None  # `receive` saw to it
        return rows.to(torch.promote_types(rows.dtype, torch.float32))

    def _reduce(self, inputs: Rows, gradients: Rows) -> None:
        block, x, d = self._block, inputs.rows, gradients.rows
        assert block is not None
        group = min(block.group, len(x))
        route = self.route or cheapest(
            self.wanted, group=group, tokens=x.shape[1], inputs=x.shape[2], outputs=d.shape[2],
            sharers=self.sharers, device=x.device.type,
        )  # fmt: skip
        norms, group_norms, products = block.on(x.device)
        weight = None if self.weight is None else self.weight.to(x.dtype)
        finding = self.finder is not None and not self._units <= self._found_in
        formed = finding and self.finder is not None and self.finder.exact and route in ("direct", "mixed")
        total: list[Tensor] = []

        def consume(sums: Tensor, first: int) -> None:
            if formed:
                part = sums.sum(dim=0)
                total[:] = [part if not total else total[0] + part]
            if weight is not None and block.samples >= block.group:
                sizes = sums.mul_(weight).abs_().sum(dim=-1).sum(dim=-1, dtype=torch.float64)
                products[self.row, first : first + len(sums)] = sizes

        found, together = None, None
        if self.wanted.norms or self.wanted.group_sums:
            found, together = reduce(
                inputs, gradients, group=group, wanted=self.wanted, route=route,
                consume=consume if formed or weight is not None else None,
            )  # fmt: skip
        if found is not None:
            norms[self.row] = found
        if together is not None and block.samples >= block.group:
            group_norms[self.row] = together
        if finding and self.finder is not None:
            # Sums, unlike the ledger, must not get a sample twice: work that failed half-way is done again in parts.
            if total:
                self.finder.add_gradient(total[0])
            else:
                self.finder.add(x, d)
            self._found_in = self._units

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
            return f"its inputs {self._lost_shape} have lost the batch dimension; profile with micro_batch=1"
        return None if self._reached else "its output does not reach the loss"
