"""Profile a model: one pass for all metrics that read statistics, then the metrics that run the model themselves."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from attrs import frozen
from transformers import PreTrainedModel

from layerlens_core import tracing
from layerlens_core.errors import DataError, ModelError, ScoreError
from layerlens_core.files.directions import write_directions
from layerlens_core.inspection.inspect import inspect
from layerlens_core.plugin import registry as registries
from layerlens_core.plugin.providers import MetricProvider
from layerlens_core.plugin.registry import Registry
from layerlens_core.profiling.costs.activations import SAMPLES, measure_activations
from layerlens_core.profiling.costs.latency import measure_latency
from layerlens_core.profiling.distributed.workers import ALONE, Workers
from layerlens_core.profiling.engine.ledger import Ledger
from layerlens_core.profiling.engine.measure import Measurements, measure
from layerlens_core.profiling.engine.micro_batch import Size
from layerlens_core.profiling.engine.refine import measure_refined
from layerlens_core.profiling.engine.stability import split_half
from layerlens_core.profiling.engine.stopping import auto_settings, settled, stages
from layerlens_core.profiling.gradients.sketches import COLUMNS
from layerlens_core.profiling.model.losses import Task, count_labels, task_of
from layerlens_core.profiling.model.samples import Sample, digest, split
from layerlens_core.profiling.model.weights import is_sharded
from layerlens_core.values.inventory import Inventory, Skipped
from layerlens_core.values.profile import Profile, versions
from layerlens_core.values.scores import RawScores

#: Exact gradient norms; sketches with confidence intervals; or sketches, and exact where the ranking is open.
Scores = Literal["exact", "sketch", "auto"]

#: The passive signal with the best evidence: shares of squared gradient norms starve modules, this one less so.
DEFAULT_METRICS = ("weight_gradient",)


class Progress(Protocol):
    """Called as work goes on: which stage, how much is done, and how much there is."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@frozen(kw_only=True)
class ActiveProfile:
    """What a metric that runs the model itself gets. It must leave the model as it was.

    scored: names of the layers to score. seed: for whatever it draws. progress: call it with (done, total).
    """

    model: PreTrainedModel
    inventory: Inventory
    scored: tuple[str, ...]
    samples: tuple[Sample, ...]
    task: Task
    micro_batch: int
    seed: int
    progress: Callable[[int, int], None]


def profile(
    model: PreTrainedModel,
    batches: Iterable[Any],
    *,
    metrics: Iterable[str] = DEFAULT_METRICS,
    task: Task | None = None,
    group: int = 2,
    micro_batch: Size = "auto",
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
    workers: Workers | None = None,
    progress: Progress | None = None,
    registry: Registry | None = None,
) -> Profile:
    """Score the layers of a model on data, and leave the model as it was.

    model: a transformers model with a head for its task. batches: a DataLoader, a datasets.Dataset, or any
    iterable of mappings with ``input_ids`` (or ``pixel_values``), ``attention_mask`` and ``labels``; causal
    models predict their own input where ``labels`` are missing. metrics: names of metric providers.
    task: by default that of the model's class. group: samples whose mean gradient makes one gradient energy.
    micro_batch: samples in one pass, ``auto`` by free memory; the scores do not depend on it.
    seed: for metrics that draw, and for sketches. scores: ``sketch`` estimates gradient norms without bias, by random
    projections, at nearly the cost of a frozen pass, and the statistics tell the error; ``auto`` then measures exactly
    those modules whose place among the others is open, and cannot be resumed. Both serve the metrics that need gradient
    norms alone. labels: class names, kept with the profile. latency: also time what the methods would add to a forward
    pass on the model's device, which budgets on latency need; times differ from run to run. spectrum: also find the
    singular values of every module's mean gradient, from which LoRA's gain by rank is then predicted. directions: the
    run's directory, into which ``directions.safetensors`` is written: the leading right singular vectors of every
    module's mean gradient, for a gradient-aligned start. Both come from sketches in the same pass.
    samples: ``auto`` stops at the first of 32, 64, 128 … samples, in the order given, where the layers' ranking has
    settled (`layerlens_core.profiling.engine.stopping`). run: the run's directory, where it is written every few seconds how
    far the pass has come; `Profile.save` removes that. resume: go on from there; the scores are then the same to the
    last bit, or to rounding in compiled layers. compile: let `torch.compile` fuse what lies between the layers' linear
    modules, which takes seconds to a minute at first and pays in long profiles. workers: the processes that share the
    work (`layerlens_core.profiling.distributed.workers`): all of them call this, and all get the same profile; metrics that run
    the model themselves, and the timing, are the first one's.

    Raises `DataError`, `ModelError`, `NonFiniteError`, `PluginError`, `FileError` and `WorkersError`, each naming what
    and where.
    """
    known = registry if registry is not None else registries.default()
    providers: list[MetricProvider] = [known.get("metric", name) for name in dict.fromkeys(metrics)]
    if not providers:
        raise ScoreError(f"name at least one metric; there are: {', '.join(known.names('metric'))}")
    functions = {provider.name: known.load("metric", provider.name) for provider in providers}
    task = task or task_of(model)
    inventory = inspect(model)
    together = workers or ALONE
    given = split(batches, own_label_length=task == "seq2seq-lm")
    if is_sharded(model) and any(provider.active for provider in providers):
        name = next(provider.name for provider in providers if provider.active)
        raise ModelError(
            f"{name} runs the model by itself, which sharded weights do not allow; leave it or --shard out"
        )
    ranked = [provider for provider in providers if has_stability(provider)]
    if samples == "auto" and not ranked:
        raise ScoreError(
            f"samples=auto needs a metric that is a mean over samples, such as {DEFAULT_METRICS[0]}; "
            f"{', '.join(provider.name for provider in providers)} is none"
        )
    report = progress or (lambda stage, done, total: None)
    needs = {need for provider in providers for need in provider.needs} | ({"spectrum"} if spectrum else set())
    if scores == "auto" and resume:
        raise DataError("scores that are made exact in further passes cannot be resumed; begin anew with --overwrite")
    gather: Callable[..., Measurements] = measure_refined if scores == "auto" and needs else measure
    if scores == "auto":
        run = None
    measured = gather(
        model,
        inventory.modules,
        given,
        task,
        needs=needs,
        sketch=COLUMNS if scores != "exact" and needs else 0,
        group=group,
        micro_batch=micro_batch,
        directions=directions is not None,
        seed=seed,
        progress=lambda done, total: report("gradients", done, total),
        stages=stages(len(given), group) if samples == "auto" else (),
        enough=lambda ledger, scored: settled(
            _stabilities(ranked, functions, inventory, ledger, scored, seed), len(ranked)
        ),
        workers=together,
        compile=[layer.name for layer in inventory.layers] if compile else (),
        run=run,
        resume=resume,
    )
    used = given
    if samples == "auto":
        used = [sample for sample in given if count_labels(sample, task) > 0][: measured.samples]
    activations = measure_activations(model, inventory, used, task, batch=min(measured.micro_batch, SAMPLES))
    raw_scores = []
    for provider in providers:
        if provider.active:
            context = ActiveProfile(
                model=model,
                inventory=inventory,
                scored=_scored_layers(inventory, measured),
                samples=tuple(used),
                task=task,
                micro_batch=measured.micro_batch,
                seed=seed,
                progress=lambda done, total, name=provider.name: report(name, done, total),  # type: ignore[misc]
            )
            function = functions[provider.name]
            values = together.agreed(
                lambda function=function, context=context, name=provider.name: (  # type: ignore[misc]
                    _as_mapping(function(context), name) if together.rank == 0 else {}
                )
            )
            values = together.first(values)
            granularity = "layer"
        else:
            values = {s.module: functions[provider.name](s) for s in measured.statistics}
            granularity = "module"
        raw_scores.append(
            RawScores(
                metric=provider.name,
                unit=provider.unit,
                granularity=granularity,  # type: ignore[arg-type]
                values=values,
                reduction=provider.reduction,
            )
        )
    stability = _stabilities(
        providers, functions, inventory, measured.ledger, [s.module for s in measured.statistics], seed
    )
    side = None
    if directions is not None:
        side = together.first(_write(directions, measured, inventory, seed) if together.rank == 0 else None)
    settings: dict[str, int | float | str] = {"group": group, "seed": seed, "dtype": _dtype(model)}
    if scores != "exact":
        settings |= {"scores": scores, "columns": COLUMNS}
    if compile:
        settings |= {"compile": "layers"}
    if samples == "auto":
        settings |= auto_settings(stability, len(ranked), len(given))
    result = Profile(
        inventory=inventory,
        task=task,
        scores=tuple(raw_scores),
        statistics=measured.statistics,
        unscored=(*measured.unscored, *_missing_layers(inventory, measured)),
        labels=tuple(labels),
        data=digest(used),
        samples=measured.samples,
        loss=measured.loss,
        settings=settings,
        versions=versions(),
        activations=activations,
        latency=together.first(measure_latency(model, inventory) if latency and together.rank == 0 else {}),
        stability=stability,
        directions=side,
    )
    tracing.profile_finished(result)
    for item in raw_scores:
        tracing.metric_scored(item)
    return result


def _write(run: str | Path, measured: Measurements, inventory: Inventory, seed: int) -> str:
    """Write the side file of singular vectors; its digest."""
    return write_directions(
        run, measured.vectors, fingerprint=inventory.fingerprint, seed=seed, samples=measured.samples
    )


def has_stability(provider: MetricProvider) -> bool:
    """Whether a metric is a mean over samples, so that parts of the samples give scores too."""
    return not provider.active and bool(provider.needs) and "spectrum" not in provider.needs


def _stabilities(
    providers: Sequence[MetricProvider],
    functions: Mapping[str, Callable[..., float]],
    inventory: Inventory,
    ledger: Ledger,
    scored: Collection[str],
    seed: int,
) -> dict[str, float]:
    """By metric, how well the layers' ranking repeats itself."""
    weights = {module.name: module.in_features * module.out_features for module in inventory.modules}
    found = {}
    for provider in filter(has_stability, providers):

        def by_layer(groups: Sequence[int], provider: MetricProvider = provider) -> list[float]:
            values = {
                module: functions[provider.name](ledger.statistics(module, weights[module], groups=groups))
                for module in scored
            }
            raw = RawScores(
                metric=provider.name, unit=provider.unit, granularity="module", values=values,
                reduction=provider.reduction,
            )  # fmt: skip
            return list(raw.by_layer(inventory).values())

        stability = split_half(by_layer, ledger.groups, seed=seed)
        if stability is not None:
            found[provider.name] = stability
    return found


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _scored_layers(inventory: Inventory, measured: Measurements) -> tuple[str, ...]:
    scored = {statistics.module for statistics in measured.statistics}
    return tuple(u.name for u in inventory.layers if any(module.name in scored for module in u.modules))


def _missing_layers(inventory: Inventory, measured: Measurements) -> list[Skipped]:
    scored = set(_scored_layers(inventory, measured))
    return [
        Skipped(name=layer.name, reason="none of its modules could be scored")
        for layer in inventory.layers
        if layer.name not in scored
    ]


def _as_mapping(values: object, metric: str) -> Mapping[str, float]:
    if not isinstance(values, Mapping):
        raise ScoreError(
            f"metric {metric!r} must give raw numbers by layer name, but gave {type(values).__name__}; "
            "values are normalised later, exactly once"
        )
    return values
