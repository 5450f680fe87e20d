"""One module's part of the pass: its inputs and output gradients come in, a few numbers go to the block.

The order of calls, for each piece of work::

    begin_piece                         a piece of work begins, perhaps again after it failed
    │  begin_forward                    once a micro-batch
    │  │  count_call                    for each time that the module runs …
    │  │  project                       … and where squared norms are sketched, what is kept of its inputs
    │  begin_backward
    │  │  receive                       for each of these calls: its inputs and output gradients
    │  end_backward                     numbers go to the block once the piece's last micro-batch is over
    release                             no tensor is held any longer, whether the piece failed or not
"""

from collections.abc import Callable, Mapping

import torch
from attrs import define, field, frozen
from torch import Tensor

from layerlens_core.profiling.attribution.layout import Layout, alone
from layerlens_core.profiling.engine.block import Block
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.routes import Route, Wanted, by_triton, cheapest, reduce
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_core.profiling.gradients.sketches import Projector, column_squares


@frozen
class Sights:
    """What a module was seen to do.

    called: its forward ran.
    reached: a gradient came back to its output.
    lost: why the rows of an input could not be attributed to samples; None where all could.
    """

    called: bool = False
    reached: bool = False
    lost: str | None = None

    def merged(self, other: "Sights") -> "Sights":
        """What two workers saw of one module."""
        return Sights(self.called or other.called, self.reached or other.reached, self.lost or other.lost)

    @property
    def why_unscored(self) -> str | None:
        """Why the module has no score, or None where it has one."""
        if not self.called:
            return "never called in the forward pass"
        if not self.reached:
            return "its output does not reach the loss"
        return self.lost


@define(kw_only=True, eq=False)
class Recorder:
    """Records one module.

    Calls of one micro-batch are joined along the tokens: a module that runs several times, as in ALBERT, has one weight
    gradient, the sum over its calls. Where a micro-batch is smaller than a group, the rows of the group's earlier
    samples are kept until the group is complete.

    name: the module's.
    row: the module's in the ledger.
    weight: gives W [out, in], where mean |W ⊙ ḡ| is wanted.
    wanted: what is to be found of its gradients.
    route: a forced way to compute it.
    sharers: how many modules are likely to share the input, this one included, for the estimate of the cheapest route.
    finder: gathers the mean gradient's sketches.
    shared: inputs that other modules may have prepared already.
    projector: where squared norms are sketched.
    layouts: where the module keeps its samples, by the number of dimensions beside the features.
    unknown: why it is not known where else it keeps them.
    sights: what the module was seen to do so far.
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
    layouts: Mapping[int, Layout] = field(factory=dict)
    unknown: str | None = None
    sights: Sights = field(factory=Sights)

    # About the current piece of work.
    _chunks: frozenset[int] = frozenset()
    _found_in: frozenset[int] = frozenset()  # the chunks whose gradients the finder already holds
    _block: Block | None = None
    _carried: list[tuple[int, Tensor, Tensor]] = field(factory=list)

    # About the current micro-batch.
    _samples: int = 0
    _first: int = 0
    _last: bool = True
    _in_forward: bool = False
    _calls: int = 0
    # For each call: the inputs as they came, by which shared ones are recognised; inputs and gradients by sample.
    _pending: list[tuple[Tensor, Tensor, Tensor]] = field(factory=list)

    def begin_piece(self, chunks: frozenset[int], block: Block) -> None:
        """A piece of work begins, perhaps again after it failed.

        chunks: of which it is made.
        block: where its numbers go.
        """
        self._chunks, self._block = chunks, block
        self._carried.clear()

    def begin_forward(self, samples: int, *, first: int, last: bool) -> None:
        """A forward pass begins.

        samples: in the micro-batch.
        first: the place of its first sample in the piece of work.
        last: no other micro-batch of the piece follows.
        """
        self._samples, self._in_forward, self._calls = samples, True, 0
        self._first, self._last = first, last
        self._pending.clear()

    def count_call(self) -> None:
        """The module's forward ran; recomputation under checkpointing, in the backward pass, is no new call."""
        if self._in_forward:
            if not self.sights.called:
                self.sights = self.sights.merged(Sights(called=True))
            self._calls += 1

    def project(self, inputs: Tensor) -> Tensor:
        """What is kept of a call's inputs [..., in] where squared norms are sketched: aᵢΩ [samples, T, k]."""
        assert self.projector is not None
        rows = self._by_sample(inputs)
        if rows is None:
            return inputs.new_empty((*inputs.shape[:-1], 0))  # `receive` notes that the rows are lost
        return self.projector.project(inputs, rows)

    def begin_backward(self) -> None:
        """The forward pass is over."""
        self._in_forward = False

    def receive(self, inputs: Tensor, gradients: Tensor) -> None:
        """Take one call's inputs and output gradients; once all calls have come, they are reduced to numbers.

        inputs: [..., in], or what `project` kept of them.
        gradients: [..., out].
        """
        if not self.sights.reached:
            self.sights = self.sights.merged(Sights(reached=True))
        if self.sights.lost is not None:
            return
        inputs, d = inputs.detach(), self._by_sample(gradients.detach())
        if d is None:
            self.sights = self.sights.merged(Sights(lost=self._why_lost(gradients)))
            return
        # What `project` kept lies by sample already.
        x = self._by_sample(inputs) if self.projector is None else inputs.reshape(*d.shape[:2], -1)
        assert x is not None
        self._pending.append((inputs, x, d))
        if len(self._pending) == self._calls:
            self._join_calls()

    def end_backward(self) -> None:
        """The backward pass is over: reduce what still waits for calls or samples that never came."""
        if self._pending:  # some calls' outputs do not reach the loss
            self._join_calls()
        elif self._last and self._carried:  # nothing came from the group's last samples
            self._reduce(*self._joined())
        self.shared.forget()

    def release(self) -> None:
        """Let go of all tensors; the piece of work failed, or its numbers were fetched."""
        self._pending.clear()
        self._carried.clear()
        self._block = None
        self.shared.forget()
        if self.projector is not None:
            self.projector.forget()

    def _by_sample(self, rows: Tensor) -> Tensor | None:
        """Inputs or output gradients [..., features] as [samples, rows of a sample, features]; None where unknown."""
        if self._samples == 1:
            return alone(rows)
        layout = self.layouts.get(rows.dim() - 1)
        return None if layout is None else layout.by_sample(rows, self._samples)

    def _why_lost(self, rows: Tensor) -> str:
        shape = " × ".join(map(str, rows.shape[:-1])) or "1"
        return self.unknown or (
            f"its rows, {shape} of them for {self._samples} samples, are not laid out as when that was tried; "
            "profile with micro_batch=1"
        )

    def _join_calls(self) -> None:
        """All calls of this micro-batch have come: reduce them, or keep them until the group is complete."""
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
        group_size = min(block.group_size, len(x))
        if self.projector is not None:
            block.defer_sketch(self.row, *column_squares(x, d, group_size))
            return
        tables = block.on(d.device)
        route = self.route or cheapest(
            self.wanted, group_size=group_size, tokens=x.shape[1], inputs=x.shape[2], outputs=d.shape[2],
            sharers=self.sharers, device=x.device.type, triton=by_triton(x, d),
        )  # fmt: skip
        # Unlike the ledger, the finder's sums must not get a sample twice; work that failed half-way is done again.
        finder = None if self._chunks <= self._found_in else self.finder
        total = finder.total(inputs.wide) if finder is not None and self._forms_for(finder, route, x, d) else None
        if self.wanted.sample_squared_norms or self.wanted.group_sums:
            found = reduce(
                inputs, gradients, group_size=group_size, wanted=self.wanted, route=route,
                weight=self.weight() if block.has_groups and self.weight is not None else None, total=total,
                defer=lambda tiling, found: block.defer_tiles(self.row, tiling, found),
            )  # fmt: skip
            if found.sample_squared_norms is not None:
                tables.sample_squared_norms[self.row] = found.sample_squared_norms
            if found.group_sum_squared_norms is not None and block.has_groups:
                tables.group_sum_squared_norms[self.row] = found.group_sum_squared_norms
            if found.weighted_sums is not None:
                tables.weighted_sums[self.row] = found.weighted_sums
        if finder is not None:
            if total is not None:
                finder.add_gradient(total)
            else:
                finder.add(inputs.factor, gradients.factor)
            self._found_in = self._chunks

    def _forms_for(self, finder: RangeFinder, route: Route, x: Tensor, d: Tensor) -> bool:
        """Whether the finder gets the gradient itself, since that is formed for a metric anyway.

        Otherwise it gets the rows: sketching the gradient must take less work than sketching these.
        """
        asked = self.wanted.sample_squared_norms or self.wanted.group_sums
        if not asked or route not in ("direct", "mixed") or by_triton(x, d):  # kernels form none
            return False
        inputs, outputs = x.shape[2], d.shape[2]
        return finder.exact or inputs * outputs < len(x) * x.shape[1] * (inputs + outputs)
