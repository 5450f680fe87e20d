"""Sketches for all modules, then exact numbers for those alone whose place in the ranking is still open.

The second pass costs little less than a frozen forward and backward pass, however few modules it measures. So it pays
where few places are open, or where exact numbers are expensive (long samples).
"""

from collections.abc import Collection, Sequence

from attrs import evolve
from transformers import PreTrainedModel

from layerlens_core.profiling.engine.measure import Enough, Measurements, measure
from layerlens_core.profiling.engine.settings import Execution, Settings
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.profiling.samples.tasks import count_labels
from layerlens_core.values.inventory import LinearModule
from layerlens_core.values.profile import Task
from layerlens_core.values.statistics import ModuleStatistics


def measure_refined(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: Task,
    settings: Settings,
    execution: Execution | None = None,
    *,
    enough: Enough | None = None,
) -> Measurements:
    """As `measure` with sketches, and with exact numbers where two modules' intervals overlap.

    Where an exact number lies outside of its interval and inside another module's, that module is measured too. So in
    the end every module is exact, or its interval of 95 % is clear of all others. No checkpoint is written.

    model: as in `measure`.
    targets: as in `measure`.
    samples: as in `measure`.
    task: as in `measure`.
    settings: with the sketches' columns.
    execution: as in `measure`; its run is left out.
    enough: as in `measure`.

    Raises what `measure` raises.
    """
    execution = evolve(execution or Execution(), run=None)
    found = measure(model, targets, samples, task, settings, execution, enough=enough)
    used = [sample for sample in samples if count_labels(sample, task) > 0][: found.samples]
    exact_settings = evolve(
        settings,
        needs=settings.needs & {"sample_norms", "gradient_norms"},
        micro_batch=found.micro_batch,
        sketch_columns=0,
        stages=(),
    )
    while undecided := open_modules(found.statistics, settings.needs):
        some = [target for target in targets if target.name in undecided]
        exact = measure(model, some, used, task, exact_settings, execution)
        found.ledger.replace(exact.ledger)
        statistics = tuple(
            found.ledger.statistics(each.module, each.weights, spectrum=each.spectrum) for each in found.statistics
        )
        found = evolve(found, statistics=statistics)
    return found


def open_modules(statistics: Sequence[ModuleStatistics], needs: Collection[str]) -> set[str]:
    """Sketched modules whose interval overlaps with another module's, by Fisher trace or by gradient energy."""
    bounds = [{each.module: each.fisher_interval for each in statistics}]
    errors = [{each.module for each in statistics if each.squared_norm_error is not None}]
    if "gradient_norms" in needs:
        bounds.append({each.module: each.gradient_energy_interval for each in statistics})
        errors.append({each.module for each in statistics if each.group_mean_squared_norm_error is not None})
    return set().union(*(_overlapping(each) & sketched for each, sketched in zip(bounds, errors, strict=True)))


def _overlapping(intervals: dict[str, tuple[float, float]]) -> set[str]:
    order = sorted(intervals, key=lambda name: intervals[name])
    found: set[str] = set()
    highest = float("-inf")  # upper bound among the intervals that begin earlier
    for at, name in enumerate(order):
        low, high = intervals[name]
        if low <= highest or (at + 1 < len(order) and intervals[order[at + 1]][0] <= high):
            found.add(name)
        highest = max(highest, high)
    return found
