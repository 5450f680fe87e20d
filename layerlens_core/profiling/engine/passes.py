"""The forward and backward passes of a profile: piece by piece, into the ledger."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from attrs import define, field
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError, NonFiniteError
from layerlens_core.profiling.distributed.workers import ALONE, Workers, partners_there
from layerlens_core.profiling.engine.checkpoint import Partial, State
from layerlens_core.profiling.engine.ledger import Entries, Ledger
from layerlens_core.profiling.engine.micro_batch import MOST_SAMPLES, MicroBatch
from layerlens_core.profiling.engine.recorder import BatchShape, Block, Recorder
from layerlens_core.profiling.engine.schedule import Composition, Piece, arranged, pieces, share
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.sketches import Projector
from layerlens_core.profiling.hooks.attach import compiler_failure
from layerlens_core.profiling.model.losses import Task, per_sample_losses
from layerlens_core.profiling.model.non_finite import first_not_finite, named
from layerlens_core.profiling.model.samples import Sample, collate
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead

#: Called with the number of samples done and the number of all.
Progress = Callable[[int, int], None]


@define(kw_only=True, eq=False)
class Passes:
    """What runs, on what, and where the numbers go. weights: elements of each module's weight.

    sharded: the weights lie on several processes, so that all must run the model equally often. partial: where to
    write how far it has come. composition: None until memory has shown how much fits. own: units in the ledger that
    this process answers for, and that are in the finders' sums.
    """

    model: PreTrainedModel
    task: Task
    samples: Sequence[Sample]
    pad: int
    ledger: Ledger
    recorders: Sequence[Recorder]
    finders: Mapping[str, RangeFinder]
    weights: Tensor
    head: VocabularyHead | None
    size: MicroBatch
    progress: Progress
    projector: Projector | None = None
    workers: Workers = ALONE
    sharded: bool = False
    partial: Partial | None = None
    composition: Composition | None = None
    own: set[int] = field(factory=set)
    _done: int = 0
    _batch: int = 0

    def run(self, samples: int) -> None:
        """Every unit of the first samples that the ledger lacks. Afterwards all workers know the same.

        Raises `ModelError` and `NonFiniteError`, in all workers.
        """
        units = [unit for unit in range(self.ledger.units) if self.ledger.samples_of(unit).stop <= samples]
        lengths = {unit: max(tokens(self.samples[i]) for i in self.ledger.samples_of(unit)) for unit in units}
        order = arranged(lengths, self.ledger.groups)
        missing = set(self.ledger.missing())
        self._done = self.ledger.samples - sum(len(self.ledger.samples_of(unit)) for unit in missing)
        try:
            if self.composition is None:
                missing -= self._compose(order)
            self._together(lambda: self._all(order, missing))
        except KeyboardInterrupt:
            # Sums, unlike the ledger, may hold half of a piece: then the last file stands.
            if self.partial is not None and self.composition is not None and not self.finders:
                self.partial.write(self.state())
            raise
        if not self.workers.alone:
            for ledger in self.workers.gather(self.ledger.only(self.own)):
                self.ledger.merge(ledger)

    def go_on(self, earlier: State) -> None:
        """Take up what was done before an interruption. The first worker answers for it."""
        self.ledger.merge(earlier.ledger)
        self.composition = earlier.composition
        self.size.size, self.size.measured = earlier.limit, True
        for recorder in self.recorders:
            recorder.seen = earlier.seen[recorder.name]
        if self.workers.rank == 0:
            self.own = set(range(self.ledger.units)) - set(self.ledger.missing())
            for name, sums in earlier.sums.items():
                device = weight_device(self.model.get_submodule(name), self.model)
                self.finders[name].sums = tuple(part.to(device) for part in sums)

    def state(self) -> State:
        """How far this process has come."""
        assert self.composition is not None
        return State(
            ledger=self.ledger if self.workers.alone else self.ledger.only(self.own),
            sums={name: finder.sums for name, finder in self.finders.items() if finder.sums},
            seen={recorder.name: recorder.seen for recorder in self.recorders},
            composition=self.composition,
            limit=self.size.size,
        )

    def _together(self, act: Callable[[], None]) -> None:
        """Raise what is raised in one worker in all; but of sharded weights the others wait, and would not hear it."""
        if self.sharded:
            with partners_there():
                act()
        else:
            self.workers.agreed(act)

    def _compose(self, order: Sequence[int]) -> set[int]:
        """Settle what goes together; where that hangs on memory, a unit for each worker shows it. Gives these units."""
        alone = () if self.size.measured else tuple(order[: min(self.workers.size, self.ledger.groups)])
        mine = alone[self.workers.rank : self.workers.rank + 1]
        if alone:
            self._together(lambda: self._piece(mine))
            if self.sharded:
                self._keep_up([int(rank < len(alone)) for rank in range(self.workers.size)])
            self.size.size = min(self.workers.gather(self.size.size if mine else MOST_SAMPLES))
            self.size.measured = True
        self.composition = Composition(self.size.size, len(alone))
        return set(alone)

    def _all(self, order: Sequence[int], missing: Collection[int]) -> None:
        """This worker's share of the pieces in which something is missing."""
        assert self.composition is not None
        work = pieces(order, self.composition, group=self.ledger.group, groups=self.ledger.groups)
        shares = [share(work, missing, rank=rank, workers=self.workers.size) for rank in range(self.workers.size)]
        number = {unit: at for at, piece in enumerate(work) for unit in piece}
        mine = shares[self.workers.rank]
        for turn in range(len(shares[0]) if self.sharded else len(mine)):
            for piece in mine[turn : turn + 1]:
                self._batch = number[piece[0]]
                self._piece(piece)
            if self.sharded:
                self._keep_up([self._passes_for(other[turn : turn + 1]) for other in shares])
            if self.partial is not None:
                self.partial.offer(self.state)

    def _piece(self, piece: Piece) -> None:
        """All units of a piece, in as many parts as memory needs."""
        pending = list(piece)
        while pending:
            units = pending[: max(1, self.size.size // self.ledger.group)]
            if not self._tried(units):
                continue
            pending = pending[len(units) :]
            self.own |= set(units)
            self._done += sum(len(self.ledger.samples_of(unit)) for unit in units) * self.workers.size
            self.progress(min(self._done, self.ledger.samples), self.ledger.samples)

    def _tried(self, units: list[int]) -> bool:
        """Whether memory sufficed; where it did not, the micro-batch is smaller afterwards. Raises `ModelError`."""
        numbers = [i for unit in units for i in self.ledger.samples_of(unit)]
        longest = max(tokens(self.samples[i]) for i in numbers)
        try:
            with self.size.watched(len(numbers), longest):
                entries = self._work(units, numbers)
        except torch.OutOfMemoryError as error:
            if self.size.size == 1:
                raise ModelError(
                    f"{self.size.device} ran out of memory with a single sample of {longest} tokens in a pass; "
                    "use a smaller --max-length, or gradient checkpointing"
                ) from error
            if self.sharded:
                raise ModelError(
                    f"{self.size.device} ran out of memory with {self.size.size} samples in a pass; with sharded "
                    f"weights the processes cannot each take fewer: use --micro-batch {self.size.size // 2}"
                ) from error
        except RuntimeError as error:
            if (why := compiler_failure(error)) is None:
                raise
            raise ModelError(f"torch.compile failed: {why}; leave --compile out") from error
        else:
            self.ledger.record(units, entries)
            return True
        finally:
            for recorder in self.recorders:
                recorder.drop()
        self.size.halve()  # outside of the handler, which keeps the failed pass's tensors alive
        return False

    def _work(self, units: Collection[int], numbers: Sequence[int]) -> Entries:
        """Forward and backward passes of a piece of work. Raises `NonFiniteError`."""
        block = Block(ledger=self.ledger, samples=len(numbers), group=self.ledger.group)
        for recorder in self.recorders:
            recorder.start(frozenset(units), block)
        losses = []
        for first in range(0, len(numbers), self.size.size):
            part = [self.samples[i] for i in numbers[first : first + self.size.size]]
            if self.projector is not None:
                self.projector.begin(list(units) or [0])  # of a sample that runs for nothing, some group
            losses.append(self._passes(on(input_device(self.model), collate(part, self.pad)), first, len(numbers)))
        entries = block.fetch(torch.cat(losses), self.weights)
        self._check(entries, numbers)
        return entries

    def _passes_for(self, work: Sequence[Piece]) -> int:
        """How often the model runs for these pieces."""
        samples = [sum(len(self.ledger.samples_of(unit)) for unit in piece) for piece in work]
        return sum(-(-count // self.size.size) for count in samples)

    def _keep_up(self, passes: Sequence[int]) -> None:
        """Run the model on the shortest sample, for nothing, as often as a worker with more to do runs it."""
        shortest = min(range(len(self.samples)), key=lambda i: (tokens(self.samples[i]), i))
        for _ in range(max(passes) - passes[self.workers.rank]):
            self._work((), [shortest])
            for recorder in self.recorders:
                recorder.drop()

    def _passes(self, batch: Sample, first: int, total: int) -> Tensor:
        """One forward and one backward pass: the losses, on the device."""
        shape = BatchShape.of(batch)
        for recorder in self.recorders:
            recorder.begin(shape, first=first, last=first + shape.samples >= total)
        with torch.enable_grad():
            losses = per_sample_losses(self.model, batch, self.task, self.head)
        for recorder in self.recorders:
            recorder.forward_is_over()
        torch.autograd.backward(losses.sum())
        for recorder in self.recorders:
            recorder.finish()
            recorder.shared.forget()
        if self.projector is not None:
            self.projector.forget()
        return losses.detach()

    def _check(self, entries: Entries, numbers: Sequence[int]) -> None:
        """Raises `NonFiniteError` that names the batch and the module where it began."""
        bad = [at for at, loss in enumerate(entries.losses.tolist()) if not math.isfinite(loss)]
        if bad:
            first = bad[0] // self.size.size * self.size.size
            part = [self.samples[i] for i in numbers[first : first + self.size.size]]
            batch = on(input_device(self.model), collate(part, self.pad))
            where = "" if self.sharded else f"; {first_not_finite(self.model, batch, self.task)}"
            raise NonFiniteError(
                f"the loss is {entries.losses[bad[0]]} in batch {self._batch}{where}. "
                f"Look at its weights and at {named(part)}"
            )
        wrong = entries.not_finite()
        if wrong:
            # Gradients flow from the last module to the first, so what is wrong began in the last.
            raise NonFiniteError(
                f"the gradient of {self.ledger.modules[wrong[-1]]} is not finite in batch {self._batch}; "
                f"look at {named([self.samples[i] for i in numbers])}, or load the model in float32"
            )


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model takes its inputs, also when ``device_map`` spread it or offloaded its weights."""
    embeddings = model.get_input_embeddings()
    device: torch.device = next(embeddings.parameters()).device
    where = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
    return device if device.type != "meta" or where is None else torch.device(where)


def weight_device(module: nn.Module, model: PreTrainedModel) -> torch.device:
    """Where a module computes."""
    device: torch.device = next(module.parameters()).device
    return device if device.type != "meta" else input_device(model)


def tokens(sample: Sample) -> int:
    """Tokens of a sample; pixels have no length."""
    ids = sample.get("input_ids")
    return 1 if ids is None else len(ids)


def on(device: torch.device, batch: Sample) -> Sample:
    """A batch on a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
