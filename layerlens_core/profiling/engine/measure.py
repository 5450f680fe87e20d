"""The one pass over the data that gathers every statistic that the chosen metrics need.

Weights stay frozen and autograd computes activation gradients only. A tap on each module reduces its inputs
and output gradients to a few numbers a sample and lets go of them, so no moment holds all gradients. The numbers
stay on the device until the micro-batch is over, and go into the ledger in one transfer.

The pieces of work are the groups: consecutive samples of a declared number, independent of the micro-batch. Long ones
come first, so that neighbours need little padding and memory runs out early if it does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from attrs import evolve, field, frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.errors import DataError, ModelError
from layerlens_core.profiling.distributed.workers import ALONE, Workers, exchange_sums
from layerlens_core.profiling.engine.checkpoint import SECONDS, Partial, Seen, State, together
from layerlens_core.profiling.engine.fingerprint import identify
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.micro_batch import MicroBatch, Size
from layerlens_core.profiling.engine.passes import Passes, Progress, input_device, on, tokens, weight_device
from layerlens_core.profiling.engine.recorder import Recorder
from layerlens_core.profiling.gradients.gram import Rows
from layerlens_core.profiling.gradients.range_finder import LEADING, RangeFinder
from layerlens_core.profiling.gradients.routes import Route, Wanted
from layerlens_core.profiling.gradients.shared_inputs import SharedInputs
from layerlens_core.profiling.gradients.sketches import SKETCHED, Projector
from layerlens_core.profiling.hooks.attach import listening
from layerlens_core.profiling.hooks.tap import Ear
from layerlens_core.profiling.model.frozen import checkpointing_kept, untouched
from layerlens_core.profiling.model.losses import Task, count_labels, vocabulary_head
from layerlens_core.profiling.model.samples import Sample, collate
from layerlens_core.profiling.model.weights import dense_weight, is_sharded
from layerlens_core.values.inventory import LinearModule, Skipped
from layerlens_core.values.statistics import ModuleStatistics


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
    sketch: int = 0,
    directions: bool = False,
    rank: int = LEADING,
    seed: int = 0,
    progress: Progress | None = None,
    stages: Sequence[int] = (),
    enough: Callable[[Ledger, Collection[str]], bool] | None = None,
    workers: Workers | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    seconds: float = SECONDS,
    compile: Collection[str] = (),
) -> Measurements:
    """Gather statistics of every target over the samples, in one pass.

    targets: modules of the model. needs: statistics, `layerlens_core.values.statistics.STATISTICS`.
    group: samples whose mean gradient is ḡ. micro_batch: samples in one forward and backward pass; groups that fit are
    taken whole, and where not even one fits, its inputs and output gradients are kept until it is complete. ``auto``
    goes by free memory. Where memory runs out, it is halved and the pass goes on.
    route: force one way to compute the norms; by default the cheapest one by shape.
    sketch: 0 for exact norms, or the columns of random projections (`layerlens_core.profiling.gradients.sketches`), whose error
    the statistics then tell.
    directions: also give the leading singular vectors of mean gradients, ``rank`` of them; they and the statistic
    ``spectrum`` come from sketches that ``seed`` draws (`layerlens_core.profiling.gradients.range_finder`).
    stages: numbers of samples, ascending, at each of which ``enough`` is asked whether the pass may stop there; it gets
    a ledger of the first so many and the names of modules that have a score.
    workers: the processes that share the work; all of them call this, and all get the result.
    run: a directory where it is written every few ``seconds`` how far the pass has come (`profile.partial`), and
    resume: go on from there. The numbers are then those of a pass that was not interrupted, to the last bit
    unless layers are compiled.
    compile: names of layers that `torch.compile` may fuse (`layerlens_core.profiling.hooks.compiled`).

    Raises `DataError` where fewer than ``group`` samples have labels, `NonFiniteError` that names module and
    batch, `ModelError` where weights are packed that are needed, where not even one sample fits into memory, or where
    what is to be compiled cannot be,
    `FileError` where what is to be resumed is damaged or of another profile, and `WorkersError` where workers differ.
    The model is as before afterwards, also after an exception.
    """
    if group < 1 or (micro_batch != "auto" and micro_batch < 1):
        raise DataError(f"group and micro_batch are at least 1, but are {group} and {micro_batch}")
    if sketch and (sketch < 2 or directions or not set(needs) <= SKETCHED):
        asked = sorted({*needs, *(["directions"] if directions else [])})
        raise DataError(
            f"sketches have at least 2 columns and give {' and '.join(sorted(SKETCHED))} alone, but asked for were "
            f"{sketch} columns and {', '.join(asked)}; use --scores exact, or metrics such as fisher"
        )
    counted = [sample for sample in samples if count_labels(sample, task) > 0]
    if len(counted) < group:
        raise DataError(
            f"{len(counted)} of {len(samples)} samples have a label to compute a loss from; "
            f"profiling needs at least one group of {group}"
        )
    workers, sharded = workers or ALONE, is_sharded(model)
    size = MicroBatch.of(micro_batch, group, input_device(model))
    pad = pad_token_id(model, task, min(size.size, len(counted)))
    ledger = Ledger.empty([target.name for target in targets], len(counted), group, needs, columns=sketch)
    finders = {
        target.name: RangeFinder(
            name=target.name,
            inputs=target.in_features,
            outputs=target.out_features,
            rank=rank,
            seed=seed,
            formed="weight_gradient" in needs and input_device(model).type == "cpu",
        )
        for target in targets
        if directions or "spectrum" in needs
    }
    earlier = partial = None
    if run is not None or not workers.alone:
        identity = identify(
            model, targets, counted, task=task, needs=sorted(needs), group=group, micro_batch=micro_batch, seed=seed,
            directions=directions, rank=rank, route=route or "by shape", sketch=sketch, stages=list(stages),
            compile=bool(compile),
        )  # fmt: skip
        workers.compare(identity)
        if run is not None:
            partial = Partial(run=Path(run), identity=identity, rank=workers.rank, seconds=seconds)
            earlier = _begin(partial, ledger, workers, resume=resume)
    projector = Projector(columns=sketch, seed=seed) if sketch else None
    recorders = _recorders(model, targets, needs, route, finders, projector)
    with untouched(model), checkpointing_kept(model):
        passes = Passes(
            model=model, task=task, samples=counted, pad=pad, ledger=ledger, recorders=recorders, finders=finders,
            projector=projector,
            weights=torch.tensor([float(target.in_features * target.out_features) for target in targets]),
            head=vocabulary_head(model, on(input_device(model), collate([min(counted, key=tokens)], pad)), task),
            size=size, progress=progress or (lambda done, total: None),
            workers=workers, sharded=sharded, partial=partial,
        )  # fmt: skip
        if earlier is not None:
            passes.go_on(earlier)
        ears = {
            recorder.name: Ear(recorder.receive, recorder.count_call, recorder.project if sketch else None)
            for recorder in recorders
        }
        used = len(counted)
        with listening(model, ears, columns=sketch, layers=compile):
            for count in [*(count for count in stages if count < len(counted)), len(counted)]:
                passes.run(count)
                _share_sights(recorders, workers)
                scored = [recorder.name for recorder in recorders if recorder.why_unscored is None]
                if enough is not None and count < len(counted) and enough(ledger.upto(count), scored):
                    used = count
                    break
    if partial is not None and partial.path.exists():
        partial.write(passes.state())  # metrics that run the model themselves are still to come
    ledger = ledger.upto(used)
    sums = exchange_sums(
        workers, {name: finder.sums for name, finder in finders.items()},
        lambda name: weight_device(model.get_submodule(name), model),
    )  # fmt: skip
    for name, finder in finders.items():
        finder.sums = sums.get(name, ())
    statistics, unscored = [], []
    vectors: dict[str, Tensor] = {}
    for target, recorder in zip(targets, recorders, strict=True):
        if recorder.why_unscored is not None:
            unscored.append(Skipped(name=target.name, reason=recorder.why_unscored))
            continue
        found = finders[target.name].find(used) if finders else None
        spectrum = (*found.values.tolist(), found.rest) if found and "spectrum" in needs else ()
        weights = target.in_features * target.out_features
        statistics.append(ledger.statistics(target.name, weights, spectrum=spectrum))
        if found and directions:
            vectors[target.name] = found.vectors.cpu()
    return Measurements(
        statistics=tuple(statistics),
        unscored=tuple(unscored),
        samples=used,
        loss=ledger.loss,
        ledger=ledger,
        micro_batch=size.size,
        vectors=vectors,
    )


def _begin(partial: Partial, empty: Ledger, workers: Workers, *, resume: bool) -> State | None:
    """What was done earlier, known to all workers; its sums to the first alone. Raises `FileError`, in all of them."""
    mine = workers.agreed(lambda: partial.begin(empty, resume=resume) if workers.rank == 0 else None)
    told = (partial.generation, None if mine is None else evolve(mine, sums={}))
    partial.generation, earlier = workers.first(told)
    if workers.rank != 0:
        partial.path.unlink(missing_ok=True)  # where it is no file that the first one sees
    return mine or earlier


def _share_sights(recorders: Sequence[Recorder], workers: Workers) -> None:
    """Let every worker know what the others saw each module do."""
    if workers.alone:
        return
    seen: dict[str, Seen] = {}
    for other in workers.gather({recorder.name: recorder.seen for recorder in recorders}):
        seen = together(seen, other)
    for recorder in recorders:
        recorder.seen = seen[recorder.name]


def _recorders(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    needs: Collection[str],
    route: Route | None,
    finders: Mapping[str, RangeFinder],
    projector: Projector | None,
) -> list[Recorder]:
    """One for each target. Modules of one parent and of one input width are reckoned to share their input."""
    wanted = Wanted(
        norms=bool({"sample_norms", "gradient_norms"} & set(needs)),
        group_norms="gradient_norms" in needs,
        group_sums="weight_gradient" in needs,
    )
    families = [(target.name.rpartition(".")[0], target.in_features) for target in targets]
    shared: SharedInputs[Rows] = SharedInputs()
    recorders = []
    for row, target in enumerate(targets):
        module = model.get_submodule(target.name)
        weight = dense_weight(module, target) if wanted.group_sums else None
        recorders.append(
            Recorder(
                name=target.name, row=row, weight=weight, wanted=wanted, route=route,
                sharers=families.count(families[row]), finder=finders.get(target.name), shared=shared,
                projector=projector,
            )
        )  # fmt: skip
    return recorders


def pad_token_id(model: PreTrainedModel, task: Task, batch: int) -> int:
    """What to pad inputs with. Raises `ModelError` where the model needs to be told and is not."""
    pad = model.config.get_text_config().pad_token_id
    # Classifiers on decoders look for the last token that is not padding; they refuse batches otherwise.
    if pad is None and task == "sequence-classification" and batch > 1 and hasattr(model, "score"):
        raise ModelError(
            f"{type(model).__name__} has no padding token: set model.config.pad_token_id, or use micro_batch=1"
        )
    return int(pad) if pad is not None else 0
