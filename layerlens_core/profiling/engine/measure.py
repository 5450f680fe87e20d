"""The one pass over the data that gathers every statistic that the chosen metrics need.

Weights stay frozen and autograd computes activation gradients only. A tap on each module reduces its inputs and output
gradients to a few numbers a sample and lets go of them, so that at no moment all gradients are held. The numbers stay
on the device until the piece of work is over, and go into the ledger in one transfer.

Pieces of work are made of groups: a declared number of consecutive samples, whatever the micro-batch. Groups with long
samples come first, so that neighbours need little padding and memory runs out early if it does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from attrs import evolve, field, frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import DataError
from layerlens_core.profiling.attribution.company import Company
from layerlens_core.profiling.attribution.establish import ALONE, Established, establish
from layerlens_core.profiling.distributed.workers import Workers, exchange_sums
from layerlens_core.profiling.engine.checkpoint import Checkpoint, State, merged_sights
from layerlens_core.profiling.engine.fingerprint import fingerprint
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.micro_batch import MicroBatch
from layerlens_core.profiling.engine.passes import Passes
from layerlens_core.profiling.engine.recorder import Recorder, Sights
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.routes import Wanted
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_core.profiling.gradients.sketches import Projector
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.devices import input_device, on, weight_device
from layerlens_core.profiling.model.frozen import checkpointing_kept, untouched
from layerlens_core.profiling.model.losses import vocabulary_head
from layerlens_core.profiling.model.packed import gradients_pass, mixes_samples
from layerlens_core.profiling.model.samples import Sample, collate, tokens
from layerlens_core.profiling.model.tasks import check_samples, count_labels, pad_token_id
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.model.weights import dense_weight, is_sharded
from layerlens_core.values.inventory import LinearModule, Skipped
from layerlens_core.values.profile import Task
from layerlens_core.values.statistics import ModuleStatistics

#: Whether the pass may stop at a stage, from a ledger of the samples so far and the names of modules with a score.
Enough = Callable[[Ledger, Collection[str]], bool]


@frozen(kw_only=True)
class Measurements:
    """What one pass gave.

    statistics: by module.
    unscored: modules without a score, with the reason.
    samples: how many counted.
    loss: their mean, in nats.
    ledger: the numbers that the statistics sum up.
    micro_batch: samples in one forward and backward pass, at the end.
    company: how samples shared a batch.
    vectors: leading right singular vectors [k, in] of mean gradients by module, where they were asked for.
    """

    statistics: tuple[ModuleStatistics, ...]
    unscored: tuple[Skipped, ...]
    samples: int
    loss: float
    ledger: Ledger = field(eq=False)
    micro_batch: int = field(eq=False)
    company: Company = field(eq=False)
    vectors: Mapping[str, Tensor] = field(factory=dict, eq=False)


def measure(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    settings: Settings,
    execution: Execution | None = None,
    *,
    enough: Enough | None = None,
) -> Measurements:
    """Gather statistics of every target over the samples, in one pass.

    model: to run; it is as before afterwards, also after an exception.
    targets: modules of the model.
    samples: those without labels are not counted.
    task: which loss is computed.
    settings: what to gather, and how.
    execution: how to run, which does not change the numbers.
    enough: asked at each of the settings' stages whether the pass may stop there.

    Raises `DataError` where fewer samples than a group have labels, `NonFiniteError` that names module and batch,
    `ModelError` where packed weights let no gradient through or cannot be unpacked though they are needed, where not
    even one sample fits into memory, or where a layer cannot be compiled, `FileError` where a checkpoint is damaged or
    of another profile, and `WorkersError` where workers differ.
    """
    settings.check()
    execution = execution or Execution()
    counted = _with_labels(samples, task, settings.group_size)
    check_samples(model, counted, task)
    with execution.writing():
        with untouched(model), checkpointing_kept(model), gradients_pass(model):
            passes = _prepared(model, targets, counted, task, settings, execution)
            used = _run(passes, settings, enough)
        if passes.checkpoint is not None and passes.checkpoint.path.exists():
            passes.checkpoint.write(passes.state())  # metrics that run the model themselves are still to come
    _exchange_sketches(passes)
    return _summed_up(passes, targets, settings, used)


def _with_labels(samples: Sequence[Sample], task: Task, group_size: int) -> list[Sample]:
    """The samples that have a loss. Raises `DataError` where they do not fill a group."""
    counted = [sample for sample in samples if count_labels(sample, task) > 0]
    if len(counted) < group_size:
        raise DataError(
            f"{len(counted)} of {len(samples)} samples have a label to compute a loss from; "
            f"profiling needs at least one group of {group_size}"
        )
    return counted


def _prepared(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    settings: Settings,
    execution: Execution,
) -> Passes:
    """The passes; where a run is resumed, with what was done earlier."""
    device = input_device(model)
    ledger = Ledger.empty(
        [target.name for target in targets],
        len(samples),
        settings.group_size,
        settings.needs,
        sketch_columns=settings.sketch_columns,
    )
    checkpoint, earlier = _earlier(model, targets, samples, task, settings, execution, ledger)
    finders = _finders(targets, settings, device)
    columns = settings.sketch_columns
    projector = Projector(columns=columns, seed=settings.seed) if columns else None
    recorders = _recorders(model, targets, settings, finders, projector)
    # Only now is the model run: FSDP2 leaves some weights whole after a pass, and a digest must not hold on to these.
    shortest = on(device, collate([min(samples, key=tokens)], pad_token_id(model, task, 1)))
    head = vocabulary_head(model, shortest, task)
    together, micro_batch = _together(model, targets, samples, task, settings, execution.workers, head)
    for recorder in recorders:
        recorder.layouts, recorder.unknown = together.layouts(recorder.name), together.reason(recorder.name)
    passes = Passes(
        model=model,
        task=task,
        samples=samples,
        pad=pad_token_id(model, task, 1),
        head=head,
        ledger=ledger,
        recorders=recorders,
        finders=finders,
        projector=projector,
        weights=torch.tensor([float(target.in_features * target.out_features) for target in targets]),
        micro_batch=micro_batch,
        execution=execution,
        together=together,
        sharded=is_sharded(model),
        checkpoint=checkpoint,
    )
    if earlier is not None:
        passes.resume_from(earlier)
    return passes


def _together(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    settings: Settings,
    workers: Workers,
    head: VocabularyHead | None,
) -> tuple[Established, MicroBatch]:
    """How samples go together, the same in all workers, and how many do.

    With ``auto`` they run alone where modules would else stay without a score.
    """
    micro_batch = MicroBatch.of(settings.micro_batch, settings.group_size, input_device(model))
    if mixes_samples(model):
        micro_batch.samples, micro_batch.measured = 1, True
    if micro_batch.samples == 1 and micro_batch.measured:
        return ALONE, micro_batch
    names = [target.name for target in targets]

    def tried() -> Established:
        try:
            return establish(model, names, samples, task, head)
        except torch.OutOfMemoryError:
            if is_sharded(model):
                raise  # the others are inside the model, waiting for this one
            return ALONE

    together = workers.first(tried() if is_sharded(model) else workers.agreed(tried))
    if settings.micro_batch == "auto" and together.lost:
        together = ALONE
    if together.company == "alone":
        micro_batch.samples, micro_batch.measured = 1, True
    return together, micro_batch


def _earlier(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    settings: Settings,
    execution: Execution,
    empty: Ledger,
) -> tuple[Checkpoint | None, State | None]:
    """The checkpoint to write to, and what was done earlier; the first worker alone gets the sums of that.

    Raises `WorkersError` where workers see different things, and `FileError`, in all of them.
    """
    workers = execution.workers
    if execution.run is None and workers.alone:
        return None, None
    seen = fingerprint(model, targets, samples, task, settings)
    workers.compare(seen)
    if execution.run is None:
        return None, None
    checkpoint = Checkpoint(run=execution.run, fingerprint=seen, rank=workers.rank, seconds=execution.seconds)
    mine = workers.agreed(lambda: checkpoint.begin(empty, resume=execution.resume) if workers.rank == 0 else None)
    told = (checkpoint.generation, None if mine is None else evolve(mine, sums={}))
    checkpoint.generation, earlier = workers.first(told)
    if workers.rank != 0:
        checkpoint.path.unlink(missing_ok=True)  # on another machine, where the first worker cannot remove it
    return checkpoint, mine or earlier


def _finders(targets: Sequence[LinearModule], settings: Settings, device: torch.device) -> dict[str, RangeFinder]:
    """By module, the range finder of its mean gradient, where spectra or directions are wanted."""
    if not (settings.directions or "spectrum" in settings.needs):
        return {}
    return {
        target.name: RangeFinder(
            name=target.name,
            inputs=target.in_features,
            outputs=target.out_features,
            rank=settings.rank,
            seed=settings.seed,
            formed="weight_gradient" in settings.needs and device.type == "cpu",
        )
        for target in targets
    }


def _recorders(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    settings: Settings,
    finders: Mapping[str, RangeFinder],
    projector: Projector | None,
) -> list[Recorder]:
    """One for each target. Modules of one parent and of one input width are taken to share their input."""
    wanted = Wanted(
        sample_squared_norms=bool({"sample_norms", "gradient_norms"} & settings.needs),
        group_sum_squared_norms="gradient_norms" in settings.needs,
        group_sums="weight_gradient" in settings.needs,
    )
    families = [(target.name.rpartition(".")[0], target.in_features) for target in targets]
    shared: SharedInputs[Rows] = SharedInputs()
    recorders = []
    for row, target in enumerate(targets):
        module = model.get_submodule(target.name)
        recorders.append(
            Recorder(
                name=target.name,
                row=row,
                weight=dense_weight(module, target, model) if wanted.group_sums else None,
                wanted=wanted,
                route=settings.route,
                sharers=families.count(families[row]),
                finder=finders.get(target.name),
                shared=shared,
                projector=projector,
            )
        )
    return recorders


def _run(passes: Passes, settings: Settings, enough: Enough | None) -> int:
    """Run the passes, stage by stage. Returns the number of samples that were enough."""
    columns, samples = settings.sketch_columns, passes.ledger.samples
    ears = {
        recorder.name: Ear(recorder.receive, recorder.count_call, recorder.project if columns else None)
        for recorder in passes.recorders
    }
    with attached(passes.model, ears, columns=columns, layers=settings.compile):
        for count in [*(count for count in settings.stages if count < samples), samples]:
            passes.run(count)
            _share_sights(passes.recorders, passes.workers)
            scored = [recorder.name for recorder in passes.recorders if recorder.sights.why_unscored is None]
            if enough is not None and count < samples and enough(passes.ledger.upto(count), scored):
                return count
    return samples


def _share_sights(recorders: Sequence[Recorder], workers: Workers) -> None:
    """Let every worker know what the others saw each module do."""
    if workers.alone:
        return
    seen: dict[str, Sights] = {}
    for other in workers.gather({recorder.name: recorder.sights for recorder in recorders}):
        seen = merged_sights(seen, other)
    for recorder in recorders:
        recorder.sights = seen[recorder.name]


def _exchange_sketches(passes: Passes) -> None:
    """Replace every worker's sketches by the sum over all workers."""
    sums = exchange_sums(
        passes.workers,
        {name: finder.sums for name, finder in passes.finders.items()},
        lambda name: weight_device(passes.model.get_submodule(name), passes.model),
    )
    for name, finder in passes.finders.items():
        finder.sums = sums.get(name, ())


def _summed_up(passes: Passes, targets: Sequence[LinearModule], settings: Settings, used: int) -> Measurements:
    """Statistics of the first samples.

    used: how many of them.
    """
    ledger = passes.ledger.upto(used)
    statistics, unscored = [], []
    vectors: dict[str, Tensor] = {}
    for target, recorder in zip(targets, passes.recorders, strict=True):
        if (reason := recorder.sights.why_unscored) is not None:
            unscored.append(Skipped(name=target.name, reason=reason))
            continue
        found = passes.finders[target.name].find(used) if passes.finders else None
        spectrum = (*found.values.tolist(), found.rest) if found and "spectrum" in settings.needs else ()
        weights = target.in_features * target.out_features
        statistics.append(ledger.statistics(target.name, weights, spectrum=spectrum))
        if found and settings.directions:
            vectors[target.name] = found.vectors.cpu()
    return Measurements(
        statistics=tuple(statistics),
        unscored=tuple(unscored),
        samples=used,
        loss=ledger.loss,
        ledger=ledger,
        micro_batch=passes.micro_batch.samples,
        company=passes.together.company,
        vectors=vectors,
    )
