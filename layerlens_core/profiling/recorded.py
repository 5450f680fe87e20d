"""What a profile records beside scores: on what they depend, what has none, and where vectors were written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from layerlens_core.files.directions import write_directions
from layerlens_core.profiling.distributed.workers import Workers
from layerlens_core.profiling.engine.measure import Measurements
from layerlens_core.profiling.engine.stopping import auto_settings
from layerlens_core.profiling.gradients.sketches import COLUMNS
from layerlens_core.profiling.model.weights import is_sharded
from layerlens_core.profiling.scoring import Metric
from layerlens_core.values.inventory import Inventory, Skipped
from layerlens_core.values.scores import default_metric

if TYPE_CHECKING:
    from layerlens_core.profiling.profile import ProfileOptions


def chosen_metrics(model: PreTrainedModel, options: "ProfileOptions") -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of the metrics, and what the profile records of them where none were named."""
    if options.metrics is not None:
        return options.metrics, {}
    name, why = default_metric(sharded=is_sharded(model), samples=options.samples, scores=options.scores)
    return (name,), {"metrics": f"default: {name}{f', as {why}' if why else ''}"}


def recorded_settings(
    model: PreTrainedModel,
    options: "ProfileOptions",
    stability: dict[str, float],
    metrics: Sequence[Metric],
    given: int,
    measured: Measurements,
) -> dict[str, int | float | str]:
    """What else the numbers depend on, as the profile records it, and how samples shared batches.

    given: how many samples there were to take from.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    settings: dict[str, int | float | str] = {"group": options.group, "seed": options.seed, "dtype": dtype}
    if options.scores != "exact":
        settings |= {"scores": options.scores, "columns": COLUMNS}
    if measured.company != "padded":
        settings |= {"batches": measured.company}
    if options.compile:
        settings |= {"compile": "layers"}
    if options.samples == "auto":
        settings |= auto_settings(stability, sum(metric.is_mean for metric in metrics), given)
    return settings


def written_directions(
    measured: Measurements, inventory: Inventory, options: "ProfileOptions", workers: Workers
) -> str | None:
    """Write the side file of singular vectors, by the first worker; its digest, or None where none is wanted."""
    if options.directions is None:
        return None
    if workers.rank != 0:
        return workers.first(None)
    return workers.first(
        write_directions(
            options.directions,
            measured.subspace,
            fingerprint=inventory.fingerprint,
            seed=options.seed,
            samples=measured.samples,
        )
    )


def scored_layers(inventory: Inventory, measured: Measurements) -> tuple[str, ...]:
    scored = {statistics.module for statistics in measured.statistics}
    return tuple(layer.name for layer in inventory.layers if any(module.name in scored for module in layer.modules))


def missing_layers(inventory: Inventory, measured: Measurements) -> list[Skipped]:
    scored = set(scored_layers(inventory, measured))
    return [
        Skipped(name=layer.name, reason="none of its modules could be scored")
        for layer in inventory.layers
        if layer.name not in scored
    ]
