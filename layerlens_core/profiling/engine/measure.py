"""The one pass over the data that gathers every statistic that the chosen metrics need.

Weights stay frozen and autograd computes activation gradients only. A tap on each module reduces its inputs and output
gradients to a few numbers a sample and lets go of them, so that at no moment all gradients are held. The numbers stay
on the device until the piece of work is over, and go into the ledger in one transfer.

Pieces of work are made of groups: a declared number of consecutive samples, whatever the micro-batch. Groups with long
samples come first, so that neighbours need little padding and memory runs out early if it does.
"""

from collections.abc import Callable, Collection, Sequence

from attrs import field, frozen
from transformers import PreTrainedModel

from layerlens_core.errors import DataError
from layerlens_core.files.directions import Pair, Subspace
from layerlens_core.profiling.attribution.company import Company
from layerlens_core.profiling.distributed.workers import Workers, exchange_sums
from layerlens_core.profiling.engine.checkpoint import merged_sights
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.passes import Passes
from layerlens_core.profiling.engine.prepare import prepared
from layerlens_core.profiling.engine.recorder import Recorder, Sights
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.devices import weight_device
from layerlens_core.profiling.model.frozen import checkpointing_kept, untouched
from layerlens_core.profiling.model.packed import gradients_pass
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.profiling.samples.tasks import check_samples, count_labels
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
    subspace: leading singular vectors of mean gradients by module, where they were asked for.
    """

    statistics: tuple[ModuleStatistics, ...]
    unscored: tuple[Skipped, ...]
    samples: int
    loss: float
    ledger: Ledger = field(eq=False)
    micro_batch: int = field(eq=False)
    company: Company = field(eq=False)
    subspace: Subspace = field(factory=dict, eq=False)


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
            passes = prepared(model, targets, counted, task, settings, execution)
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
    subspace: dict[str, Pair] = {}
    for target, recorder in zip(targets, passes.recorders, strict=True):
        if (reason := recorder.sights.why_unscored) is not None:
            unscored.append(Skipped(name=target.name, reason=reason))
            continue
        found = passes.finders[target.name].find(used) if passes.finders else None
        spectrum = (*found.values.tolist(), found.rest) if found and "spectrum" in settings.needs else ()
        weights = target.in_features * target.out_features
        statistics.append(ledger.statistics(target.name, weights, spectrum=spectrum))
        if found and settings.directions:
            subspace[target.name] = Pair(left=found.left.cpu().numpy(), right=found.right.cpu().numpy())
    return Measurements(
        statistics=tuple(statistics),
        unscored=tuple(unscored),
        samples=used,
        loss=ledger.loss,
        ledger=ledger,
        micro_batch=passes.micro_batch.samples,
        company=passes.together.company,
        subspace=subspace,
    )
