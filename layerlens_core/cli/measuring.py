"""What the commands that run a model share: load it, draw samples, profile, under torchrun too."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs import frozen

from layerlens_core.cli.progress.shown import loading, progress_bar
from layerlens_core.cli.terminal import is_first, say
from layerlens_core.errors import DataError, ModelError, first_line
from layerlens_core.files.run import checkpoints
from layerlens_core.values.profile import Evidence, Profile, Task
from layerlens_core.values.scores import default_metric

if TYPE_CHECKING:
    from layerlens_core.data.prepare import Prepared
    from layerlens_core.profiling.distributed.workers import Workers
    from layerlens_core.profiling.warming.options import WarmUpOptions


@frozen(kw_only=True)
class ProfileArguments:
    """The command line's options of data and of profiling, under their own names (`layerlens_core.cli.options`)."""

    data: str
    text_field: str | None
    label_field: str | None
    prompt_field: str | None
    completion_field: str | None
    messages_field: str | None
    task: Task | None
    samples: int | tuple[Literal["auto"], int]
    max_length: int
    seed: int
    group: int
    micro_batch: int | Literal["auto"]
    scores: Literal["exact", "sketch", "auto"]
    spectrum: bool
    directions: bool
    warm_up: str | None
    warm_up_rank: int | None
    warm_up_rate: float | None
    epochs: float | None
    batch: int | None
    resume: bool
    compile: bool
    shard: bool
    check_labels: bool | None
    latency: bool
    device: str | None
    dtype: str
    trust_remote_code: bool

    def warm_up_into(self, folder: Path) -> "WarmUpOptions | None":
        """The warm-up that is asked for, whose file goes into a folder. Raises `DataError`."""
        from layerlens_core.profiling.warming.options import WarmUpOptions

        given: dict[str, Any] = {
            "rank": self.warm_up_rank,
            "rate": self.warm_up_rate,
            "epochs": self.epochs,
            "batch": self.batch,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if self.warm_up is not None:
            return WarmUpOptions(length=self.warm_up, folder=folder, say=say if is_first() else _silent, **given)
        if given:
            option = {"rank": "--warm-up-rank", "rate": "--warm-up-rate"}.get(name := min(given), f"--{name}")
            raise DataError(f"{option} is of a warm-up; give --warm-up, such as --warm-up 10%, too")
        return None

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """What scores where no metric is named."""
        samples: Literal["all", "auto"] = "all" if isinstance(self.samples, int) else "auto"
        name, _ = default_metric(sharded=self.shard, samples=samples, scores=self.scores)
        return (name,)


def _silent(_line: str) -> None:
    """Says nothing, in processes that are not the first."""


def run_profile(
    model: str,
    metrics: Mapping[str, float],
    arguments: ProfileArguments,
    out: Path,
    *,
    beside: Path,
    rehearse: "Callable[[Prepared], object] | None" = None,
) -> Profile:
    """Load, draw and profile, with a progress bar; under torchrun, this process's share of it.

    model: a local directory or a hub id.
    metrics: their weights by name; none for the default.
    arguments: the command line's options.
    out: the run's directory, into which checkpoints are written.
    beside: where to write files of singular vectors, if any are asked for.
    rehearse: called between loading and the long work, so that what it raises is not raised only after that.
    """
    if arguments.check_labels and arguments.shard:
        raise ModelError("--check-labels trains adapters, which sharded weights do not allow; leave it or --shard out")
    if arguments.warm_up is not None and arguments.shard:
        raise ModelError("--warm-up trains adapters, which sharded weights do not allow; leave it or --shard out")
    names = tuple(metrics) or None
    check_at_once(model, names or arguments.default_metrics, arguments)
    loading(model)
    from layerlens_core.profiling.distributed.workers import by_torchrun, joined

    try:
        with joined(by_torchrun()) as workers:
            where = workers.agreed(lambda: choose_device(arguments.device, workers))
            prepared = workers.agreed(lambda: _prepare(model, arguments, rehearse))
            return _profile(prepared, names, arguments, out, where=where, workers=workers, beside=beside)
    except KeyboardInterrupt:
        if checkpoints(out) and is_first():
            say("\ninterrupted; the same command with --resume goes on from where it was")
        raise


def check_at_once(model: str, metrics: Iterable[str], arguments: ProfileArguments) -> None:
    """Raises for what names and options tell already, before torch is imported, which takes seconds.

    model: a local directory or a hub id.
    metrics: their names.
    arguments: the command line's options.

    Raises `ModelError`, `DataError` and `PluginError`.
    """
    from layerlens_core.data.source import check_data, check_source
    from layerlens_core.plugin.providers import needs_of
    from layerlens_core.plugin.registry import default
    from layerlens_core.values.statistics import check_sketched

    providers = [default().get("metric", name) for name in metrics]
    arguments.warm_up_into(Path())
    check_source(model)
    check_data(arguments.data)
    needs = needs_of(providers, spectrum=arguments.spectrum)
    if needs and arguments.scores != "exact":
        check_sketched(needs, directions=arguments.directions)


def _prepare(model: str, arguments: ProfileArguments, rehearse: "Callable[[Prepared], object] | None") -> "Prepared":
    from layerlens_core.data.prepare import DataOptions, prepare

    options = DataOptions(
        text_field=arguments.text_field,
        label_field=arguments.label_field,
        prompt_field=arguments.prompt_field,
        completion_field=arguments.completion_field,
        messages_field=arguments.messages_field,
        task=arguments.task,
        samples=arguments.samples if isinstance(arguments.samples, int) else arguments.samples[1],
        lazily=not isinstance(arguments.samples, int),
        max_length=arguments.max_length,
    )
    prepared = prepare(
        model,
        arguments.data,
        options,
        seed=arguments.seed,
        dtype=arguments.dtype,
        trust_remote_code=arguments.trust_remote_code,
    )
    if is_first():
        _say_what_was_made(model, prepared)
    if rehearse is not None:
        rehearse(prepared)
    return prepared


def _say_what_was_made(model: str, prepared: "Prepared") -> None:
    """Lines on what the data are taken for, and on what is odd about it."""
    if prepared.target is not None:
        say(f"{prepared.task}: {prepared.target}")
        if prepared.target.note:
            say(f"Warning: {model}: {prepared.target.note}")
    if prepared.untrained:
        say(
            f"Warning: {model} has no {', '.join(prepared.untrained[:3])}{' …' if prepared.untrained[3:] else ''} "
            f"for {prepared.task}: {len(prepared.untrained)} tensors are random, and no plan trains them"
        )
    if not prepared.draw.lazily:
        say(str(prepared.draw.counts))


def _profile(
    prepared: "Prepared",
    metrics: tuple[str, ...] | None,
    arguments: ProfileArguments,
    out: Path,
    *,
    where: Any,
    workers: "Workers",
    beside: Path,
) -> Profile:
    import torch

    from layerlens_core.profiling.distributed import sharding
    from layerlens_core.profiling.engine.settings import Execution
    from layerlens_core.profiling.profile import ProfileOptions, profile_with

    options = ProfileOptions(
        metrics=metrics,
        task=prepared.task,
        group=arguments.group,
        micro_batch=arguments.micro_batch,
        seed=arguments.seed,
        scores=arguments.scores,
        labels=prepared.labels,
        latency=arguments.latency,
        spectrum=arguments.spectrum,
        directions=beside if arguments.directions else None,
        warm_up=arguments.warm_up_into(beside),
        samples="all" if isinstance(arguments.samples, int) else arguments.samples[0],
        compile=arguments.compile,
    )

    def completed(result: Profile) -> Profile:
        if arguments.check_labels is not False and not arguments.shard and is_first():
            result = attrs.evolve(result, evidence=_evidence(prepared, result, arguments, report))
        settings = {**result.settings, **_settings(prepared)}
        if isinstance(most := settings.get("samples_at_most"), int):
            settings["samples_at_most"] = min(most, prepared.draw.most)
        return attrs.evolve(result, settings=settings)

    with progress_bar() as report:
        try:
            if arguments.shard:
                sharding.shard(prepared.model, prepared.inventory, where, workers)
            result = profile_with(
                prepared.model if arguments.shard else prepared.model.to(where),
                prepared.samples,
                options,
                Execution(workers=workers, run=out, resume=arguments.resume),
                inventory=prepared.inventory,
                progress=report,
                completed=completed,
            )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{where} ran out of memory; use a smaller --micro-batch (it was {arguments.micro_batch}) or "
                "--max-length"
            ) from error
    if prepared.draw.lazily and is_first():
        say(str(prepared.draw.counts))
    return result


def _evidence(
    prepared: "Prepared", result: Profile, arguments: ProfileArguments, report: Callable[[str, int, int], None]
) -> Evidence | None:
    """Whether the labels have to do with the inputs, and a line on it.

    Forward passes tell, for a part of what profiling takes. Only where they do not, and the check was asked for,
    adapters are trained for a few steps, which takes longer than a short profile.
    """
    from layerlens_core.allocation.abstention import LEVEL
    from layerlens_core.comparison.learnable import held_out_advantage
    from layerlens_core.comparison.related import related
    from layerlens_core.plugin.active import ActiveProfile
    from layerlens_core.profiling.engine.micro_batch import ON_CPU

    scored = {statistics.module for statistics in result.statistics}
    context = ActiveProfile(
        model=prepared.model,
        inventory=prepared.inventory,
        scored=tuple(
            layer.name for layer in prepared.inventory.layers if any(module.name in scored for module in layer.modules)
        ),
        samples=tuple(islice(prepared.samples, result.samples)),
        task=prepared.task,
        micro_batch=arguments.micro_batch if isinstance(arguments.micro_batch, int) else ON_CPU,
        seed=arguments.seed,
        progress=lambda done, total: report("labels", done, total),
    )
    report("labels", 0, 1)
    found = related(context)
    report("labels", 1, 1)
    if arguments.check_labels and (found is None or found.p > LEVEL):
        found = held_out_advantage(context)
        if found is None:
            say("Warning: these labels cannot be permuted, so whether they mean anything is not known")
    if found is not None:
        say(f"labels: {found.sentence}")
    return found


def _settings(prepared: "Prepared") -> dict[str, int | float | str]:
    """What became of the rows, and what the head answers, as the profile records it."""
    counts = prepared.draw.counts
    settings: dict[str, int | float | str] = {
        "rows": counts.read,
        "rows_cut": counts.cut,
        "rows_left_out": sum(counts.left_out.values()),
        "max_length": counts.max_length,
    }
    if prepared.target is not None:
        settings["problem_type"] = prepared.target.problem
    return settings


def choose_device(device: str | None, workers: "Workers | None" = None) -> Any:
    """The device by that name, or by default a GPU where there is one; of several processes each gets its own.

    Raises `ModelError` where it is not there, or where several processes would share a GPU.
    """
    import torch

    several = workers is not None and not workers.alone
    if device is None and not torch.cuda.is_available():
        return torch.device("cpu")
    try:
        where: Any = torch.device(device or "cuda")
        if where.type == "meta":
            raise RuntimeError("it holds no data")
        if several and where.type == "cuda":
            if where.index is not None:
                raise RuntimeError("several processes cannot share it; --device cuda gives each its own")
            where = _own_gpu()
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"the device {device or 'cuda'} cannot be used: {first_line(error)}; leave --device out, or use cpu"
        ) from None
    return where


def _own_gpu() -> Any:
    """The GPU of this process, by its number on the machine."""
    import torch

    from layerlens_core.profiling.distributed.workers import local_rank

    if torch.cuda.is_available() and local_rank() >= torch.cuda.device_count():
        raise RuntimeError(
            f"process {local_rank()} here wants a GPU of its own, and there are {torch.cuda.device_count()}; "
            f"start with --nproc-per-node {torch.cuda.device_count()}"
        )
    where = torch.device("cuda", local_rank())
    torch.empty(0, device=where)  # raises here where CUDA is missing, before other errors come of it
    torch.cuda.set_device(where)
    return where
