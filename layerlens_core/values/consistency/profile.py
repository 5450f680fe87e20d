"""Whether what a file says of a model and of its measurement can be: names once, references that resolve, ranges, sums.

Everything here raises ``ValueError`` in words that follow "was changed or damaged: ". Types, and that numbers are
finite, are checked as a file is read (`layerlens_core.files.documents`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from layerlens_core.values.inventory import Inventory, LinearModule
from layerlens_core.values.statistics import ModuleStatistics

if TYPE_CHECKING:
    from layerlens_core.values.profile import Profile, WarmUp

#: Settings are smaller than this.
_LARGEST = float(1 << 63)
#: What the rounding of a sum may add to it.
_ROUNDING = 1e-6


def check_inventory(inventory: Inventory) -> None:
    """Raises ``ValueError`` where a model cannot be made like this."""
    once((layer.name for layer in inventory.layers), "the layer")
    layers = {layer.name for layer in inventory.layers}
    linears = list(inventory.linears())
    once((module.name for module in linears), "the module")
    for module in (*linears, *([inventory.output] if inventory.output else [])):
        _check_linear(module, layers)
    at_least(0, {"parameters": inventory.parameters}, "the model")
    for layer in inventory.layers:
        for module in layer.modules:
            if module.layer != layer.name:
                raise ValueError(f"{module.name} lies in {layer.name}, but says that it lies in {module.layer}")
        once((attention.name for attention in layer.attentions), "the attention")
        for attention in layer.attentions:
            if attention.layer != layer.name:
                raise ValueError(f"{attention.name} lies in {layer.name}, but says that it lies in {attention.layer}")
            heads = {"query_heads": attention.query_heads, "key_value_heads": attention.key_value_heads}
            at_least(1, heads | {"key_dim": attention.key_dim, "value_dim": attention.value_dim}, attention.name)
        for block in layer.blocks:
            at_least(1, {"features": block.features}, block.name)
        for weight in layer.experts:
            widths = {"in_features": weight.in_features, "out_features": weight.out_features}
            at_least(1, {"experts": weight.experts, **widths}, weight.name)
    for experts in inventory.experts:
        at_least(0, {"active": experts.active, "parameters": experts.parameters}, experts.name)
        at_least(max(1, experts.active), {"count": experts.count}, experts.name)
    for head in inventory.heads:
        at_least(0, {"parameters": head.parameters}, head.name)
    once((head.name for head in inventory.heads), "the head")


def check_profile(profile: "Profile") -> None:
    """Raises ``ValueError`` where a profile contradicts itself."""
    from layerlens_core.values.profile import Task

    check_inventory(profile.inventory)
    if profile.task not in get_args(Task):
        raise ValueError(f"no task is named {profile.task!r}; there are: {', '.join(get_args(Task))}")
    at_least(1, {"samples": profile.samples}, "the profile")
    modules = {module.name for module in profile.inventory.modules}
    layers = {layer.name for layer in profile.inventory.layers}
    once((scores.metric for scores in profile.scores), "the metric")
    for scores in profile.scores:
        known = modules if scores.granularity == "module" else layers
        resolve(scores.values, known, f"{scores.metric} scores", f"no {scores.granularity} of the model")
    once((statistics.module for statistics in profile.statistics), "the module")
    resolve((statistics.module for statistics in profile.statistics), modules, "there are statistics of", "no module")
    for statistics in profile.statistics:
        if statistics.samples > profile.samples:
            raise ValueError(f"{statistics.module} has seen {statistics.samples} of {profile.samples} samples")
        check_statistics(statistics)
    if both := {statistics.module for statistics in profile.statistics} & {each.name for each in profile.unscored}:
        raise ValueError(f"{min(both)} has statistics, and a reason to have none")
    once((skipped.name for skipped in profile.unscored), "the unscored module")
    once(profile.labels, "the label")
    _check_measured(profile, layers)
    check_digest(profile.directions, "directions")
    if profile.warm_up is not None:
        _check_warm_up(profile.warm_up)
    for name, value in profile.settings.items():
        if isinstance(value, bool) or (isinstance(value, int | float) and not abs(value) < _LARGEST):
            raise ValueError(f"the setting {name} is {value}")


def check_statistics(found: ModuleStatistics) -> None:
    """Raises ``ValueError`` where no gradients can have these sums."""
    counts = {"weights": found.weights, "samples": found.samples, "group_size": found.group_size}
    at_least(1, counts, found.module)
    if found.groups != found.samples // found.group_size:
        raise ValueError(f"{found.module} has {found.groups} groups of {found.group_size} in {found.samples} samples")
    sums = {name: value for name in _SUMS if (value := getattr(found, name)) is not None}
    at_least(0, sums, found.module)
    for name, squares, count in (
        ("sum_squared_norm", "sum_fourth_power", found.samples),
        ("sum_group_mean_squared_norm", "sum_group_mean_fourth_power", found.groups),
        ("sum_weight_gradient", "sum_squared_weight_gradient", found.groups),
    ):
        if (name in sums) != (squares in sums):
            raise ValueError(f"{found.module} has only one of {name} and {squares}")
        if name in sums and sums[name] > math.sqrt(sums[squares]) * math.sqrt(count) * (1 + _ROUNDING):
            raise ValueError(f"{found.module}: no {count} numbers have this {name} and this {squares}")
    grouped, singly = sums.get("sum_grouped_squared_norm", 0.0), sums.get("sum_squared_norm", math.inf)
    if grouped > singly * (1 + _ROUNDING):
        raise ValueError(f"{found.module}: sum_grouped_squared_norm is over some of the samples and exceeds all")
    for error in (found.squared_norm_error, found.group_mean_squared_norm_error):
        if error is not None:
            at_least(0, {"variance": error.variance}, found.module)
            if not error.freedom > 0:
                raise ValueError(f"{found.module} has a sketch with {error.freedom:g} degrees of freedom")
    at_least(0, {f"spectrum[{at}]": value for at, value in enumerate(found.spectrum)}, found.module)
    leading = found.spectrum[:-1]
    if any(after > before * (1 + _ROUNDING) for before, after in pairwise(leading)):
        raise ValueError(f"{found.module} has singular values that do not descend")


_SUMS = (
    "sum_squared_norm", "sum_fourth_power", "sum_group_mean_squared_norm", "sum_group_mean_fourth_power",
    "sum_grouped_squared_norm", "sum_weight_gradient", "sum_squared_weight_gradient",
)  # fmt: skip


def _check_measured(profile: "Profile", layers: set[str]) -> None:
    if profile.activations is not None:
        for name in ("through", "adapted"):
            kept: Mapping[str, float] = getattr(profile.activations, name)
            resolve(kept, layers, f"activations are kept {name}", "no layer of the model")
            at_least(0, kept, "activations")
        at_least(0, {"head": profile.activations.head}, "activations")
    for method, (fixed, each) in profile.latency.items():
        at_least(0, {"fixed": fixed, "each": each}, f"the latency of {method}")
    resolve(
        profile.stability, {scores.metric for scores in profile.scores}, "there is a stability of", "no metric here"
    )
    resolve(
        profile.module_stability,
        {scores.metric for scores in profile.scores if scores.granularity == "module"},
        "there is a stability of modules of",
        "no metric of modules here",
    )
    if profile.evidence is not None:
        numbers = {"error": profile.evidence.error, "samples": profile.evidence.samples}
        at_least(0, numbers, "the evidence")
        if not 0 <= profile.evidence.p <= 1:
            raise ValueError(f"the evidence has a p of {profile.evidence.p:g}")
        if not math.isfinite(profile.evidence.advantage):
            raise ValueError(f"the evidence has an advantage of {profile.evidence.advantage:g}")
    for metric, value in (*profile.stability.items(), *profile.module_stability.items()):
        if not -1 - _ROUNDING <= value <= 1 + _ROUNDING:
            raise ValueError(f"the stability of {metric} is {value:g}, which is no correlation")


def _check_warm_up(found: "WarmUp") -> None:
    counts = {"steps": found.steps, "rank": found.rank, "samples": found.samples, "batch": found.batch}
    at_least(1, counts, "the warm-up")
    at_least(0, {"seconds": found.seconds, "peak": found.peak}, "the warm-up")
    if not 0 < found.rate < math.inf:
        raise ValueError(f"the warm-up has a rate of {found.rate:g}")
    if found.samples < found.batch:
        raise ValueError(f"the warm-up has batches of {found.batch} of {found.samples} samples")
    check_digest(found.digest, "the warm-up's digest")


def _check_linear(module: LinearModule, layers: set[str]) -> None:
    at_least(1, {"in_features": module.in_features, "out_features": module.out_features}, module.name)
    if module.layer is not None and module.layer not in layers:
        raise ValueError(f"{module.name} lies in {module.layer}, which is no layer")


def once(names: Iterable[str], what: str) -> None:
    """Raises ``ValueError`` for a name that stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is there twice")
        seen.add(name)


def resolve(names: Iterable[str], known: Iterable[str], what: str, none: str) -> None:
    """Raises ``ValueError`` for a name that is not known."""
    if unknown := set(names) - set(known):
        raise ValueError(f"{what} {min(unknown)}, which is {none}")


def at_least(least: float, numbers: Mapping[str, float], of: str) -> None:
    """Raises ``ValueError`` for a number that is smaller, or not finite."""
    for name, number in numbers.items():
        if not least <= number < math.inf:
            raise ValueError(f"{name} of {of} is {number:g}; it must be at least {least:g}")


def check_digest(text: str | None, what: str) -> None:
    """Raises ``ValueError`` for what is no sha256 digest in hexadecimal."""
    if text is not None and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{what} is no sha256 digest")
