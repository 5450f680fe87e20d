"""Make the passes of a measurement ready: what runs, what hears it, how samples go together, what was done earlier."""

from collections.abc import Mapping, Sequence

import torch
from attrs import evolve
from transformers import PreTrainedModel

from layerlens_core.profiling.attribution.establish import ALONE, Established, establish
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.profiling.engine.checkpoint import Checkpoint, State
from layerlens_core.profiling.engine.fingerprint import fingerprint
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.micro_batch import MicroBatch
from layerlens_core.profiling.engine.passes import Passes
from layerlens_core.profiling.engine.recorder import Recorder
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.range_finder import RangeFinder
from layerlens_core.profiling.gradients.routes import Wanted
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_core.profiling.gradients.sketches import Projector
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.losses import vocabulary_head
from layerlens_core.profiling.model.packed import mixes_samples
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.model.weights import dense_weight, is_sharded
from layerlens_core.profiling.samples.sample import Sample, collate, tokens
from layerlens_core.profiling.samples.tasks import pad_token_id
from layerlens_core.values.inventory import LinearModule
from layerlens_core.values.profile import Task


def prepared(
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
    pad = pad_token_id(model, task, 1)
    shortest = on(device, collate([min(samples, key=tokens)], pad))
    head = vocabulary_head(model, shortest, task)
    together, micro_batch = _together(model, targets, samples, task, settings, execution.workers, head)
    for recorder in recorders:
        recorder.layouts, recorder.unknown = together.layouts(recorder.name), together.reason(recorder.name)
    passes = Passes(
        model=model,
        task=task,
        samples=samples,
        pad=pad,
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
