"""The one pass over the data that gathers every statistic that the chosen metrics need.

Weights stay frozen and autograd computes activation gradients only. A tap on each module reduces its inputs
and output gradients to a few numbers a sample and lets go of them, so no moment holds all gradients. The numbers
stay on the device until the micro-batch is over, and go into the ledger in one transfer.

The pieces of work are the groups: consecutive samples of a declared number, independent of the micro-batch. Long ones
come first, so that neighbours need little padding and memory runs out early if it does.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerlens_core.adaptation.inspect import linear_kind
from layerlens_core.errors import DataError, ModelError, NonFiniteError
from layerlens_core.inventory import LinearModule, Skipped
from layerlens_core.profiling.directions import LEADING, RangeFinder
from layerlens_core.profiling.ledger import Entries, Ledger
from layerlens_core.profiling.losses import Task, count_labels, per_sample_losses, vocabulary_head
from layerlens_core.profiling.micro_batch import MicroBatch, Size
from layerlens_core.profiling.products import Route, Wanted
from layerlens_core.profiling.recorder import BatchShape, Block, Recorder
from layerlens_core.profiling.samples import Sample, collate
from layerlens_core.profiling.shared_inputs import SharedInputs
from layerlens_core.profiling.tap import tap
from layerlens_core.profiling.untouched import checkpointing_kept, untouched
from layerlens_core.profiling.vocabulary import VocabularyHead
from layerlens_core.statistics import ModuleStatistics

#: Called with the number of samples done and the number of all.
Progress = Callable[[int, int], None]


@frozen(kw_only=True)
class Measurements:
    """What one pass gave: statistics by module, what could not be scored, and the mean loss in nats.

    ledger: the numbers that the statistics sum up. micro_batch: samples in one forward and backward pass, at the end.
    vectors: leading right singular vectors [k, in] of mean gradients by module, where they were asked for.
    """

    statistics: tuple[ModuleStatistics, ...]
    unscored: tuple[Skipped, ...]
    samples: int
    loss: float
    ledger: Ledger = field(eq=False)
    micro_batch: int = field(eq=False)
    vectors: Mapping[str, Tensor] = field(factory=dict, eq=False)


def measure(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    *,
    needs: Collection[str],
    group: int = 2,
    micro_batch: Size = "auto",
    route: Route | None = None,
    directions: bool = False,
    rank: int = LEADING,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurements:
    """Gather statistics of every target over the samples, in one pass.

    targets: modules of the model. needs: statistics, `layerlens_core.statistics.STATISTICS`.
    group: samples whose mean gradient is ḡ. micro_batch: samples in one forward and backward pass; groups that fit are
    taken whole, and where not even one fits, its inputs and output gradients are kept until it is complete. ``auto``
    goes by free memory. Where memory runs out, it is halved and the pass goes on.
    route: force one way to compute the norms; by default the cheapest one by shape.
    directions: also give the leading singular vectors of mean gradients, ``rank`` of them; they and the statistic
    ``spectrum`` come from sketches that ``seed`` draws (`layerlens_core.profiling.directions`).

    Raises `DataError` where fewer than ``group`` samples have labels, `NonFiniteError` that names module and
    batch, and `ModelError` where weights are packed that are needed, or where not even one sample fits into memory.
    The model is as before afterwards, also after an exception.
    """
    if group < 1 or (micro_batch != "auto" and micro_batch < 1):
        raise DataError(f"group and micro_batch are at least 1, but are {group} and {micro_batch}")
    counted = [sample for sample in samples if count_labels(sample, task) > 0]
    if len(counted) < group:
        raise DataError(
            f"{len(counted)} of {len(samples)} samples have a label to compute a loss from; "
            f"profiling needs at least one group of {group}"
        )
    size = MicroBatch.of(micro_batch, group, input_device(model))
    pad = pad_token_id(model, task, min(size.size, len(counted)))
    ledger = Ledger.empty([target.name for target in targets], len(counted), group, needs)
    finders = {
        target.name: RangeFinder(
            name=target.name, inputs=target.in_features, outputs=target.out_features, rank=rank, seed=seed
        )
        for target in targets
        if directions or "spectrum" in needs
    }
    recorders = _recorders(model, targets, needs, route, finders)
    with untouched(model), checkpointing_kept(model):
        run = _Pass(
            model=model, task=task, samples=counted, pad=pad, ledger=ledger, recorders=recorders,
            weights=torch.tensor([float(target.in_features * target.out_features) for target in targets]),
            head=vocabulary_head(model, _on(input_device(model), collate([min(counted, key=_tokens)], pad)), task),
        )  # fmt: skip
        handles = [
            tap(model.get_submodule(recorder.name), recorder.receive, recorder.count_call) for recorder in recorders
        ]
        try:
            run.all(size, progress or (lambda done, total: None))
        finally:
            for handle in handles:
                handle.remove()
    scored, unscored = [], []
    vectors: dict[str, Tensor] = {}
    for target, recorder in zip(targets, recorders, strict=True):
        if recorder.why_unscored is not None:
            unscored.append(Skipped(name=target.name, reason=recorder.why_unscored))
            continue
        found = finders[target.name].find(len(counted)) if finders else None
        spectrum = (*found.values.tolist(), found.rest) if found and "spectrum" in needs else ()
        weights = target.in_features * target.out_features
        scored.append(ledger.statistics(target.name, weights, spectrum=spectrum))
        if found and directions:
            vectors[target.name] = found.vectors.cpu()
    return Measurements(
        statistics=tuple(scored),
        unscored=tuple(unscored),
        samples=len(counted),
        loss=ledger.loss,
        ledger=ledger,
        micro_batch=size.size,
        vectors=vectors,
    )


@define(kw_only=True)
class _Pass:
    """One pass: what it runs, on what, and where the numbers go. weights: elements of each module's weight."""

    model: PreTrainedModel
    task: Task
    samples: Sequence[Sample]
    pad: int
    ledger: Ledger
    recorders: Sequence[Recorder]
    weights: Tensor
    head: VocabularyHead | None
    batches: int = 0

    def all(self, size: MicroBatch, progress: Progress) -> None:
        """Every unit that the ledger lacks, the longest first."""
        length = {
            unit: max(_tokens(self.samples[i]) for i in self.ledger.samples_of(unit)) for unit in self.ledger.missing()
        }
        whole = sorted((unit for unit in length if unit < self.ledger.groups), key=lambda unit: (-length[unit], unit))
        pending = [*whole, *(unit for unit in length if unit >= self.ledger.groups)]
        done = self.ledger.samples - sum(len(self.ledger.samples_of(unit)) for unit in pending)
        while pending:
            units = pending[: max(1, size.size // self.ledger.group)]
            if len(units) > 1 and units[-1] >= self.ledger.groups:
                units.pop()  # the incomplete group has no numbers of a group
            if not self._tried(units, size, length[units[0]]):
                continue
            pending = pending[len(units) :]
            self.batches += 1
            done += sum(len(self.ledger.samples_of(unit)) for unit in units)
            progress(done, self.ledger.samples)

    def _tried(self, units: list[int], size: MicroBatch, tokens: int) -> bool:
        """Whether memory sufficed; where it did not, the micro-batch is smaller afterwards. Raises `ModelError`."""
        numbers = [i for unit in units for i in self.ledger.samples_of(unit)]
        try:
            with size.watched(len(numbers), tokens):
                entries = self._work(units, numbers, size.size)
        except torch.OutOfMemoryError as error:
            if size.size == 1:
                raise ModelError(
                    f"{size.device} ran out of memory with a single sample of {tokens} tokens in a pass; "
                    "use a smaller --max-length, or gradient checkpointing"
                ) from error
        else:
            self.ledger.record(units, entries)
            return True
        finally:
            for recorder in self.recorders:
                recorder.drop()
        size.halve()  # outside of the handler, which keeps the failed pass's tensors alive
        return False

    def _work(self, units: list[int], numbers: list[int], size: int) -> Entries:
        """Forward and backward passes of a piece of work. Raises `NonFiniteError`."""
        block = Block(ledger=self.ledger, samples=len(numbers), group=self.ledger.group)
        for recorder in self.recorders:
            recorder.start(frozenset(units), block)
        losses = []
        for first in range(0, len(numbers), size):
            part = [self.samples[i] for i in numbers[first : first + size]]
            losses.append(self._passes(_on(input_device(self.model), collate(part, self.pad)), first, len(numbers)))
        entries = block.fetch(torch.cat(losses), self.weights)
        self._check(entries, numbers, size)
        return entries

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
        return losses.detach()

    def _check(self, entries: Entries, numbers: list[int], size: int) -> None:
        """Raises `NonFiniteError` that names the batch and the module where it began."""
        bad = [at for at, loss in enumerate(entries.losses.tolist()) if not math.isfinite(loss)]
        if bad:
            first = bad[0] // size * size
            part = [self.samples[i] for i in numbers[first : first + size]]
            where = _first_not_finite(self.model, _on(input_device(self.model), collate(part, self.pad)), self.task)
            raise NonFiniteError(
                f"the loss is {entries.losses[bad[0]]} in batch {self.batches}; {where}. "
                f"Look at its weights and at {_named(part)}"
            )
        wrong = entries.not_finite()
        if wrong:
            # Gradients flow from the last module to the first, so what is wrong began in the last.
            raise NonFiniteError(
                f"the gradient of {self.ledger.modules[wrong[-1]]} is not finite in batch {self.batches}; "
                f"look at {_named([self.samples[i] for i in numbers])}, or load the model in float32"
            )


def _tokens(sample: Sample) -> int:
    """Tokens of a sample; pixels have no length."""
    ids = sample.get("input_ids")
    return 1 if ids is None else len(ids)


def _on(device: torch.device, batch: Sample) -> Sample:
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def _named(samples: Sequence[Sample]) -> str:
    """Samples by how they begin, since their numbers are those of no file."""
    ids = samples[0].get("input_ids")
    begin = "" if ids is None else f", of which the first begins with the tokens {ids[:8].tolist()}"
    return f"that batch's {len(samples)} samples{begin}"


def _recorders(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    needs: Collection[str],
    route: Route | None,
    finders: Mapping[str, RangeFinder],
) -> list[Recorder]:
    """One for each target. Modules of one parent and of one input width are reckoned to share their input."""
    wanted = Wanted(
        norms=bool({"sample_norms", "gradient_norms"} & set(needs)),
        group_norms="gradient_norms" in needs,
        group_sums="weight_gradient" in needs,
    )
    families = [(target.name.rpartition(".")[0], target.in_features) for target in targets]
    shared = SharedInputs()
    recorders = []
    for row, target in enumerate(targets):
        module = model.get_submodule(target.name)
        weight = _dense_weight(module, target) if wanted.group_sums else None
        recorders.append(
            Recorder(
                name=target.name, row=row, weight=weight, wanted=wanted, route=route,
                sharers=families.count(families[row]), finder=finders.get(target.name), shared=shared,
            )
        )  # fmt: skip
    return recorders


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model takes its inputs, also when ``device_map`` spread it."""
    device: torch.device = next(model.get_input_embeddings().parameters()).device
    return device


def pad_token_id(model: PreTrainedModel, task: Task, batch: int) -> int:
    """What to pad inputs with. Raises `ModelError` where the model needs to be told and is not."""
    pad = model.config.get_text_config().pad_token_id
    # Classifiers on decoders look for the last token that is not padding; they refuse batches otherwise.
    if pad is None and task == "sequence-classification" and batch > 1 and hasattr(model, "score"):
        raise ModelError(
            f"{type(model).__name__} has no padding token: set model.config.pad_token_id, or use micro_batch=1"
        )
    return int(pad) if pad is not None else 0


def _dense_weight(module: nn.Module, target: LinearModule) -> Tensor:
    """The weight as [out, in]. Raises `ModelError` where it is packed (quantised)."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.numel() != target.in_features * target.out_features or not weight.is_floating_point():
        raise ModelError(
            f"the weight of {target.name} is packed ({type(module).__name__}); "
            "the statistic 'weight_gradient' needs plain weights, so leave that metric out"
        )
    return weight.detach() if linear_kind(module) == "linear" else weight.detach().T


def _first_not_finite(model: PreTrainedModel, batch: Sample, task: Task) -> str:
    """Which module's output is the first that is not finite, in words."""
    culprits: list[str] = []

    def look(name: str, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) and output else output
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            culprits.append(name)

    handles = [
        module.register_forward_hook(lambda _m, _a, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        with torch.no_grad():
            per_sample_losses(model, batch, task)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return f"the first module with an output that is not finite is {culprits[0]}"
    return "all outputs are finite"
