"""Profile a model: one pass for all metrics that read statistics, then the metrics that run the model themselves."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from attrs import evolve, frozen
from transformers import PreTrainedModel

from layerlens_core import tracing
from layerlens_core.allocation.reliability import warned
from layerlens_core.errors import DataError, ModelError, ScoreError
from layerlens_core.inspection.inspect import check_bare, inspect
from layerlens_core.plugin.active import ActiveProfile
from layerlens_core.plugin.providers import needs_of
from layerlens_core.plugin.registry import Registry, default
from layerlens_core.profiling.costs.activations import SAMPLES, measure_activations
from layerlens_core.profiling.costs.latency import measure_latency
from layerlens_core.profiling.costs.places import Places
from layerlens_core.profiling.distributed.workers import ALONE, Workers
from layerlens_core.profiling.engine.measure import Measurements, measure
from layerlens_core.profiling.engine.micro_batch import Samples
from layerlens_core.profiling.engine.refine import measure_refined
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.engine.stopping import MOST, settled, stages
from layerlens_core.profiling.gradients.sketches import COLUMNS
from layerlens_core.profiling.model.weights import is_sharded
from layerlens_core.profiling.reading import Settled, measured_as_read
from layerlens_core.profiling.recorded import (
    chosen_metrics,
    missing_layers,
    recorded_settings,
    scored_layers,
    written_directions,
)
from layerlens_core.profiling.samples.batches import read, split
from layerlens_core.profiling.samples.sample import Sample, digest
from layerlens_core.profiling.samples.tasks import count_labels, task_of
from layerlens_core.profiling.scoring import Metric, Scored, load_metrics, stabilities, told
from layerlens_core.profiling.warming.options import WarmUpOptions
from layerlens_core.profiling.warming.profiled import check_warm_up, with_warm_up
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Profile, Task, versions
from layerlens_core.values.scores import DEFAULT_PASSIVE_METRIC

#: Exact squared gradient norms; sketches with confidence intervals; or sketches, and exact where the ranking is open.
Scores = Literal["exact", "sketch", "auto"]


class Progress(Protocol):
    """Called as work goes on: which stage, how much is done, and how much there is."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@frozen(kw_only=True)
class ProfileOptions:
    """What a profile is to hold, and how it is measured; see `profile`."""

    metrics: tuple[str, ...] | None = None
    task: Task | None = None
    group: int = 2
    micro_batch: Samples = "auto"
    seed: int = 0
    scores: Scores = "exact"
    labels: tuple[str, ...] = ()
    latency: bool = False
    spectrum: bool = False
    directions: str | Path | None = None
    samples: Literal["all", "auto"] = "all"
    compile: bool = False
    warm_up: WarmUpOptions | None = None


def profile(
    model: PreTrainedModel,
    batches: Iterable[Any],
    *,
    metrics: Iterable[str] | None = None,
    task: Task | None = None,
    group: int = 2,
    micro_batch: Samples = "auto",
    seed: int = 0,
    scores: Scores = "exact",
    labels: Sequence[str] = (),
    latency: bool = False,
    spectrum: bool = False,
    directions: str | Path | None = None,
    samples: Literal["all", "auto"] = "all",
    run: str | Path | None = None,
    resume: bool = False,
    compile: bool = False,
    warm_up: str | int | WarmUpOptions | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
    registry: Registry | None = None,
) -> Profile:
    """Score the layers of a model on data, and leave the model as it was.

    model: a transformers model with a head for its task.
    batches: a DataLoader, a datasets.Dataset, or any iterable of mappings with ``input_ids`` (or ``pixel_values``),
        ``attention_mask`` and ``labels``; causal models predict their own input where ``labels`` are missing.
    metrics: names of metric providers. By default ``gora``, nats a weight, a mean over a layer's weights; where weights
        are sharded, and with other than the default ``samples`` or ``scores``, ``weight_gradient`` (`default_metric`).
        ``fisher`` and ``gradient_energy``, (nats/weight)², sums over a layer's modules, are means over samples, as
        ``weight_gradient`` is; ``proxy_eval``, nats, of whole layers, takes three short fine-tunes; ``loss_change``,
        shares, sums over modules, three short warm-ups. ``layerlens plugins`` tells of others.
    task: by default that of the model's class.
    group: samples whose mean gradient makes one gradient energy.
    micro_batch: samples in one pass, ``auto`` by free memory; the scores do not depend on it.
    seed: for metrics that draw, and for sketches.
    scores: ``sketch`` estimates squared gradient norms without bias, by random projections, at nearly the cost of a
        frozen pass, and the statistics tell the error; ``auto`` then measures exactly those modules whose place among
        the others is open, and cannot be resumed. Both serve only metrics that need nothing but squared gradient norms.
    labels: class names, kept with the profile.
    latency: also time what methods add to a forward pass, for budgets on latency; times differ from run to run.
    spectrum: also find the singular values of every module's mean gradient, which predict LoRA's gain by rank.
    directions: the run's directory, into which ``directions.safetensors`` is written: the leading singular vectors of
        every module's mean gradient, for a gradient-aligned start and for cores, by sketches in the same pass.
    samples: ``auto`` stops at the first of 32, 64, 128 … samples, in the order given, where the layers' ranking has
        settled (`layerlens_core.profiling.engine.stopping`). It reads 256, and where these settle nothing up to 4,096.
    run: the run's directory, into which a checkpoint is written every few seconds; `Profile.save` removes it.
    resume: go on from the checkpoint; the scores are then the same to the last bit, or to rounding in compiled layers.
    compile: compile what lies between linear modules, which takes up to a minute, and pays in long profiles.
    warm_up: a share of the run, such as ``"10%"``, or a number of steps, for which adapters are then trained, for cores
        and the metric ``loss_change``; ``subspace.safetensors`` is written beside the directions, or into ``run``.
    workers: the processes that share the work (`layerlens_core.profiling.distributed.workers`): all of them call this,
        and all get the same profile; metrics that run the model themselves, and the timing, are run by the first one
        alone.
    progress: called as work goes on.
    registry: of providers; by default those that are installed, and what `register` added.

    Raises `DataError`, `ModelError`, `NonFiniteError`, `PluginError`, `FileError` and `WorkersError`, each naming what
    and where. Warns of metrics whose ranking is mostly chance.
    """
    options = ProfileOptions(
        metrics=None if metrics is None else tuple(metrics),
        task=task, group=group, micro_batch=micro_batch, seed=seed, scores=scores,
        labels=tuple(labels), latency=latency, spectrum=spectrum, directions=directions, samples=samples,
        compile=compile, warm_up=WarmUpOptions.of(warm_up, directions or run),
    )  # fmt: skip
    execution = Execution(workers=workers or ALONE, run=run, resume=resume)
    return warned(profile_with(model, batches, options, execution, progress=progress, registry=registry))


def profile_with(
    model: PreTrainedModel,
    batches: Iterable[Any],
    options: ProfileOptions,
    execution: Execution,
    *,
    inventory: Inventory | None = None,
    progress: Progress | None = None,
    registry: Registry | None = None,
    completed: Callable[[Profile], Profile] = lambda profile: profile,
) -> Profile:
    """As `profile`, with options and execution as values.

    model: as in `profile`.
    batches: as in `profile`.
    options: what the profile is to hold.
    execution: how the measurement runs.
    inventory: of the model, where it was inspected already.
    progress: as in `profile`.
    registry: as in `profile`.
    completed: adds what else the profile is to record, before the trace names it by its digest.
    """
    report = progress or (lambda stage, done, total: None)
    check_bare(model)
    names, chosen = chosen_metrics(model, options)
    metrics = load_metrics(names, default() if registry is None else registry)
    task = options.task or task_of(model)
    inventory = inventory or inspect(model)
    _check(model, metrics, options, execution)
    given, most, measured = _read(model, inventory, batches, task, metrics, options, execution, report)
    _check_scored(measured)
    used = given
    if options.samples == "auto":
        used = [sample for sample in given if count_labels(sample, task) > 0][: measured.samples]
    batch, places, workers = min(measured.micro_batch, SAMPLES), Places.of(inventory), execution.workers
    activations = measure_activations(model, inventory, used, task, batch=batch, places=places)
    found = [
        metric.active(_active_profile(model, inventory, used, measured, options, task, report, metric), workers)
        if metric.provider.active
        else Scored(metric.measured(measured.statistics, inventory, measured.ledger, options.seed))
        for metric in metrics
    ]
    scored, seed = [statistics.module for statistics in measured.statistics], options.seed
    stability = stabilities(metrics, inventory, measured.ledger, scored, seed)
    result = Profile(
        inventory=inventory,
        task=task,
        scores=tuple(each.scores for each in found),
        statistics=measured.statistics,
        unscored=(*measured.unscored, *places.left_out(scored), *missing_layers(inventory, measured)),
        labels=options.labels,
        data=digest(used),
        samples=measured.samples,
        loss=measured.loss,
        settings=recorded_settings(model, options, stability, metrics, most, measured) | chosen,
        versions=versions(),
        activations=activations,
        latency=workers.first(measure_latency(model, inventory) if options.latency and workers.rank == 0 else {}),
        stability=stability | told(found, "layer"),
        module_stability=stabilities(metrics, inventory, measured.ledger, scored, seed, "module")
        | told(found, "module"),
        directions=written_directions(measured, inventory, options, workers),
    )
    context = _active_profile(model, inventory, used, measured, options, task, report, metrics[0])
    context = evolve(context, progress=_reporting(report, "warm-up"))
    result = completed(with_warm_up(result, context, options.warm_up, workers, measured.subspace))
    tracing.profile_finished(result)
    for each in result.scores:
        tracing.metric_scored(each)
    return result


def _check(model: PreTrainedModel, metrics: Sequence[Metric], options: ProfileOptions, execution: Execution) -> None:
    """Raises `ModelError`, `ScoreError` or `DataError` for what does not go together, before anything is computed."""
    active = next((metric.name for metric in metrics if metric.provider.active), None)
    if active is not None and is_sharded(model):
        raise ModelError(
            f"{active} runs the model by itself, which sharded weights do not allow; leave it or --shard out"
        )
    if options.samples == "auto" and not any(metric.is_mean for metric in metrics):
        raise ScoreError(
            f"samples=auto needs a metric that is a mean over samples, such as {DEFAULT_PASSIVE_METRIC}; "
            f"{', '.join(metric.name for metric in metrics)} is none"
        )
    if options.scores == "auto" and execution.resume:
        raise DataError("scores that are made exact in further passes cannot be resumed; begin anew with --overwrite")


def _read(
    model: PreTrainedModel,
    inventory: Inventory,
    batches: Iterable[Any],
    task: Task,
    metrics: Sequence[Metric],
    options: ProfileOptions,
    execution: Execution,
    report: Progress,
) -> tuple[Sequence[Sample], int, Measurements]:
    """The samples that were read, how many could have been, and what was measured of them."""

    def measure_all(samples: Sequence[Sample], whole: bool) -> Measurements:
        check_warm_up(options.warm_up, model, samples, task)
        how = execution if whole else evolve(execution, run=None, resume=False)
        return _measured(model, inventory, samples, task, metrics, options, how, report)

    if options.samples == "auto" and not execution.resume:
        return measured_as_read(read(batches, task, model), measure_all, _settled(metrics, inventory, options.seed))
    given = split(batches, task, model, most=MOST if options.samples == "auto" else None)
    return given, len(given), measure_all(given, True)


def _check_scored(measured: Measurements) -> None:
    """Raises `ModelError` where no module has a score."""
    if measured.statistics or not measured.unscored:
        return
    reasons = Counter(skipped.reason for skipped in measured.unscored)
    (reason, count), *_ = reasons.most_common()
    raise ModelError(
        f"none of the {len(measured.unscored)} modules could be scored; {measured.unscored[0].name}"
        f"{f' and {count - 1} others' if count > 1 else ''}: {reason}"
    )


def _measured(
    model: PreTrainedModel,
    inventory: Inventory,
    samples: Sequence[Sample],
    task: Task,
    metrics: Sequence[Metric],
    options: ProfileOptions,
    execution: Execution,
    report: Progress,
) -> Measurements:
    """What the pass gives: everything that any of the metrics needs."""
    needs = needs_of((metric.provider for metric in metrics), spectrum=options.spectrum)
    settings = Settings(
        needs=needs,
        group_size=options.group,
        micro_batch=options.micro_batch,
        sketch_columns=COLUMNS if options.scores != "exact" and needs else 0,
        # A warm-up starts along them; sketches of norms give none.
        directions=options.directions is not None or (options.warm_up is not None and options.scores == "exact"),
        seed=options.seed,
        stages=tuple(stages(len(samples), options.group)) if options.samples == "auto" else (),
        compile=tuple(layer.name for layer in inventory.layers) if options.compile else (),
        warm_up="none" if options.warm_up is None else options.warm_up.text,
    )
    refined = options.scores == "auto" and bool(needs)
    return (measure_refined if refined else measure)(
        model,
        inventory.modules,
        samples,
        task,
        settings,
        Execution(
            progress=_reporting(report, "gradients"),
            workers=execution.workers,
            run=None if options.scores == "auto" else execution.run,
            resume=execution.resume,
            seconds=execution.seconds,
        ),
        enough=_settled(metrics, inventory, options.seed),
    )


def _settled(metrics: Sequence[Metric], inventory: Inventory, seed: int) -> Settled:
    """Whether the layers' ranking has settled by all metrics that are means over samples."""
    ranked = [metric for metric in metrics if metric.is_mean]
    return lambda ledger, scored: settled(stabilities(ranked, inventory, ledger, scored, seed), len(ranked))


def _active_profile(
    model: PreTrainedModel,
    inventory: Inventory,
    samples: Sequence[Sample],
    measured: Measurements,
    options: ProfileOptions,
    task: Task,
    report: Progress,
    metric: Metric,
) -> ActiveProfile:
    """What a metric gets that runs the model itself."""
    return ActiveProfile(
        model=model,
        inventory=inventory,
        scored=scored_layers(inventory, measured),
        modules=tuple(statistics.module for statistics in measured.statistics),
        granularity=metric.provider.granularity,
        samples=tuple(samples),
        task=task,
        micro_batch=measured.micro_batch,
        seed=options.seed,
        progress=_reporting(report, metric.name),
        equal_lengths=measured.company == "equal lengths",
    )


def _reporting(report: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: report(stage, done, total)
