"""The forward and backward passes of a profile: piece by piece, into the ledger."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from attrs import define, field
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError, NonFiniteError
from layerlens_core.profiling.attribution.establish import ALONE, Established
from layerlens_core.profiling.distributed.workers import Workers, partners_there
from layerlens_core.profiling.engine.block import Block
from layerlens_core.profiling.engine.checkpoint import Checkpoint, State
from layerlens_core.profiling.engine.ledger import Entries, Ledger
from layerlens_core.profiling.engine.micro_batch import MOST_SAMPLES, MicroBatch
from layerlens_core.profiling.engine.recorder import Recorder
from layerlens_core.profiling.engine.schedule import Composition, Piece, arranged, pieces, share
from layerlens_core.profiling.engine.settings import Execution
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.sketches import Projector
from layerlens_core.profiling.model.devices import input_device, on, weight_device
from layerlens_core.profiling.model.forward import compiler_failure
from layerlens_core.profiling.model.losses import per_sample_losses
from layerlens_core.profiling.model.non_finite import first_not_finite, named
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.samples.sample import Sample, collate, runs, tokens
from layerlens_core.values.profile import Task


@define(kw_only=True, eq=False)
class Passes:
    """What runs, on what, and where the numbers go.

    model: to run.
    task: which loss is computed.
    samples: those that have labels.
    pad: the token that fills up shorter samples.
    head: computes logits at labelled positions alone; None computes all.
    ledger: what is known of every sample.
    recorders: one a module, in the order of the ledger's rows.
    finders: by module, where mean gradients are sketched.
    projector: where squared norms are sketched.
    weights: elements of each module's weight [modules].
    micro_batch: the number of samples in a forward pass.
    execution: progress and workers.
    together: how samples may share a batch.
    sharded: the weights lie on several processes, so that all must run the model equally often.
    checkpoint: where to write how far the pass has come.
    composition: how chunks are put together; None until memory has shown how many samples fit.
    own: chunks in the ledger that this process answers for, and that are in the finders' sums.
    """

    model: PreTrainedModel
    task: Task
    samples: Sequence[Sample]
    pad: int
    head: VocabularyHead | None
    ledger: Ledger
    recorders: Sequence[Recorder]
    finders: Mapping[str, RangeFinder]
    projector: Projector | None
    weights: Tensor
    micro_batch: MicroBatch
    execution: Execution
    together: Established = ALONE
    sharded: bool = False
    checkpoint: Checkpoint | None = None
    composition: Composition | None = None
    own: set[int] = field(factory=set)
    _done: int = 0
    _batch: int = 0

    @property
    def workers(self) -> Workers:
        """The processes that share the work."""
        return self.execution.workers

    def run(self, samples: int) -> None:
        """Measure every chunk of the first samples that the ledger lacks. Afterwards all workers hold the same numbers.

        samples: how many of them.

        Raises `ModelError` and `NonFiniteError`, in all workers.
        """
        chunks = [chunk for chunk in range(self.ledger.chunks) if self.ledger.samples_of(chunk).stop <= samples]
        lengths = {chunk: max(tokens(self.samples[i]) for i in self.ledger.samples_of(chunk)) for chunk in chunks}
        order = arranged(lengths, self.ledger.groups)
        missing = set(self.ledger.missing())
        self._done = self.ledger.samples - sum(len(self.ledger.samples_of(chunk)) for chunk in missing)
        try:
            if self.composition is None:
                missing -= self._compose(order)
            self._in_all_workers(lambda: self._all(order, missing))
        except KeyboardInterrupt:
            # The finders' sums, unlike the ledger, may hold half of a piece: with them the last checkpoint stays.
            if self.checkpoint is not None and self.composition is not None and not self.finders:
                self.checkpoint.write(self.state())
            raise
        if not self.workers.alone:
            for ledger in self.workers.gather(self.ledger.only(self.own)):
                self.ledger.merge(ledger)

    def resume_from(self, earlier: State) -> None:
        """Take up what was done before an interruption. The first worker answers for it."""
        self.ledger.merge(earlier.ledger)
        self.composition = earlier.composition
        self.micro_batch.samples, self.micro_batch.measured = earlier.micro_batch, True
        for recorder in self.recorders:
            recorder.sights = earlier.sights[recorder.name]
        if self.workers.rank == 0:
            self.own = set(range(self.ledger.chunks)) - set(self.ledger.missing())
            for name, sums in earlier.sums.items():
                device = weight_device(self.model.get_submodule(name), self.model)
                self.finders[name].sums = tuple(part.to(device) for part in sums)

    def state(self) -> State:
        """How far this process has come."""
        assert self.composition is not None
        return State(
            ledger=self.ledger if self.workers.alone else self.ledger.only(self.own),
            sums={name: finder.sums for name, finder in self.finders.items() if finder.sums},
            sights={recorder.name: recorder.sights for recorder in self.recorders},
            composition=self.composition,
            micro_batch=self.micro_batch.samples,
        )

    def _in_all_workers(self, act: Callable[[], None]) -> None:
        """Run something; what is raised in one worker is raised in all.

        Not so with sharded weights: the others are then inside the model, waiting for this one, and their exchange
        fails.
        """
        if self.sharded:
            with partners_there():
                act()
        else:
            self.workers.agreed(act)

    def _compose(self, order: Sequence[int]) -> set[int]:
        """Settle how chunks are put together, and return the chunks that were measured for that.

        Where it depends on memory, each worker runs one chunk, which shows how much a sample takes.
        """
        alone = () if self.micro_batch.measured else tuple(order[: min(self.workers.world_size, self.ledger.groups)])
        mine = alone[self.workers.rank : self.workers.rank + 1]
        if alone:
            self._in_all_workers(lambda: self._piece(mine))
            if self.sharded:
                self._keep_up([int(rank < len(alone)) for rank in range(self.workers.world_size)])
            self.micro_batch.samples = min(self.workers.gather(self.micro_batch.samples if mine else MOST_SAMPLES))
            self.micro_batch.measured = True
        self.composition = Composition(self.micro_batch.samples, len(alone))
        return set(alone)

    def _all(self, order: Sequence[int], missing: Collection[int]) -> None:
        """Run this worker's share of the pieces in which something is missing."""
        assert self.composition is not None
        work = pieces(order, self.composition, group_size=self.ledger.group_size, full_groups=self.ledger.groups)
        world_size = self.workers.world_size
        shares = [share(work, missing, rank=rank, world_size=world_size) for rank in range(world_size)]
        number = {chunk: at for at, piece in enumerate(work) for chunk in piece}
        mine = shares[self.workers.rank]
        for turn in range(len(shares[0]) if self.sharded else len(mine)):
            for piece in mine[turn : turn + 1]:
                self._batch = number[piece[0]]
                self._piece(piece)
            if self.sharded:
                self._keep_up([self._passes_for(other[turn : turn + 1]) for other in shares])
            if self.checkpoint is not None:
                self.checkpoint.offer(self.state)

    def _piece(self, piece: Piece) -> None:
        """Run all chunks of a piece, in as many parts as memory needs."""
        pending = list(piece)
        while pending:
            chunks = pending[: max(1, self.micro_batch.samples // self.ledger.group_size)]
            if not self._tried(chunks):
                continue
            pending = pending[len(chunks) :]
            self.own |= set(chunks)
            self._done += sum(len(self.ledger.samples_of(chunk)) for chunk in chunks) * self.workers.world_size
            self.execution.progress(min(self._done, self.ledger.samples), self.ledger.samples)

    def _tried(self, chunks: list[int]) -> bool:
        """Run these chunks; whether memory sufficed. Where it did not, the micro-batch is smaller afterwards.

        Raises `ModelError`.
        """
        numbers = [i for chunk in chunks for i in self.ledger.samples_of(chunk)]
        longest = max(tokens(self.samples[i]) for i in numbers)
        try:
            with self.micro_batch.watched(len(numbers), longest):
                entries = self._work(chunks, numbers)
        except torch.OutOfMemoryError as error:
            if self.micro_batch.samples == 1:
                raise ModelError(
                    f"{self.micro_batch.device} ran out of memory with a single sample of {longest} tokens in a pass; "
                    "use a smaller --max-length, or gradient checkpointing"
                ) from error
            if self.sharded:
                raise ModelError(
                    f"{self.micro_batch.device} ran out of memory with {self.micro_batch.samples} samples in a pass; "
                    "with sharded weights the processes cannot each take fewer: use --micro-batch "
                    f"{self.micro_batch.samples // 2}"
                ) from error
        except RuntimeError as error:
            if (why := compiler_failure(error)) is None:
                raise
            raise ModelError(f"torch.compile failed: {why}; leave --compile out") from error
        else:
            self.ledger.record(chunks, entries)
            return True
        finally:
            for recorder in self.recorders:
                recorder.release()
        self.micro_batch.halve()  # outside of the handler, which keeps the failed pass's tensors alive
        return False

    def _work(self, chunks: Collection[int], numbers: Sequence[int]) -> Entries:
        """The numbers of a piece of work, by forward and backward passes. Raises `NonFiniteError`.

        chunks: of which it is made.
        numbers: those of its samples.
        """
        block = Block(modules=len(self.ledger.modules), samples=len(numbers), group_size=self.ledger.group_size)
        for recorder in self.recorders:
            recorder.begin_piece(frozenset(chunks), block)
        losses = []
        for first, part in self._parts(numbers):
            if self.projector is not None:
                self.projector.begin_forward(list(chunks) or [0])  # any group serves a sample that runs for nothing
            batch = on(input_device(self.model), collate(part, self.pad))
            losses.append(self._passes(batch, len(part), first, len(numbers)))
        entries = block.fetch(torch.cat(losses), self.weights)
        self._check(entries, numbers)
        return entries

    def _passes_for(self, work: Sequence[Piece]) -> int:
        """How often the model runs for these pieces."""
        numbers = [[i for chunk in piece for i in self.ledger.samples_of(chunk)] for piece in work]
        return sum(len(list(self._parts(of_piece))) for of_piece in numbers)

    def _parts(self, numbers: Sequence[int]) -> Iterator[tuple[int, Sequence[Sample]]]:
        """The samples of these numbers as micro-batches, each with the place of its first one among them."""
        return runs(
            [self.samples[i] for i in numbers], self.micro_batch.samples, equal=self.together.company == "equal lengths"
        )

    def _keep_up(self, passes: Sequence[int]) -> None:
        """Run the model on the shortest sample, for nothing, until it ran as often as that of the busiest worker.

        passes: by rank, how often each worker's model runs in this turn.
        """
        shortest = min(range(len(self.samples)), key=lambda i: (tokens(self.samples[i]), i))
        for _ in range(max(passes) - passes[self.workers.rank]):
            self._work((), [shortest])
            for recorder in self.recorders:
                recorder.release()

    def _passes(self, batch: Sample, samples: int, first: int, total: int) -> Tensor:
        """One forward and one backward pass: the losses, on the device."""
        for recorder in self.recorders:
            recorder.begin_forward(samples, first=first, last=first + samples >= total)
        with torch.enable_grad():
            losses = per_sample_losses(self.model, batch, self.task, self.head)
        for recorder in self.recorders:
            recorder.begin_backward()
        torch.autograd.backward(losses.sum())
        for recorder in self.recorders:
            recorder.end_backward()
        if self.projector is not None:
            self.projector.forget()
        return losses.detach()

    def _check(self, entries: Entries, numbers: Sequence[int]) -> None:
        """Raises `NonFiniteError` that names the batch, and the module where the number arose."""
        bad = [at for at, loss in enumerate(entries.losses.tolist()) if not math.isfinite(loss)]
        if bad:
            part = next(part for first, part in self._parts(numbers) if bad[0] < first + len(part))
            batch = on(input_device(self.model), collate(part, self.pad))
            where = "" if self.sharded else f"; {first_not_finite(self.model, batch, self.task)}"
            raise NonFiniteError(
                f"the loss is {entries.losses[bad[0]]} in batch {self._batch}{where}. "
                f"Look at its weights and at {named(part)}"
            )
        wrong = entries.not_finite()
        if wrong:
            # Gradients flow from the last module to the first, so the last one that is wrong is where it began.
            raise NonFiniteError(
                f"the gradient of {self.ledger.modules[wrong[-1]]} is not finite in batch {self._batch}; "
                f"look at {named([self.samples[i] for i in numbers])}, or load the model in float32"
            )
