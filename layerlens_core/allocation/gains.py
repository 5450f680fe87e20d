"""How much of what training could gain a method reaches at a size: curves, fitted to arms that were trained.

The share of a layer's gain at n notches is ceiling · n / (n + half) (`layerlens_core.allocation.build.coverage`). Of
arms that train every layer alike, by one method at one size, the fall in held-out loss beside training nothing is
scale · ceiling · n / (n + half), with one scale for all methods of a setting (a model, a task and its data). Only
products of scale and ceiling are measured, so the ceilings are relative: the largest is 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from layerlens_core.allocation.problem import load_methods
from layerlens_core.errors import PlanError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.gains import GainCurve, Gains
from layerlens_core.values.request import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Between these, in notches, a half is looked for.
HALVES = (0.05, 500.0)


@frozen(kw_only=True)
class Measured:
    """One arm: every layer by one method at one size.

    method: its name.
    notches: its size in notches of the method.
    loss: held out, in nats.
    none: held-out loss of the same setting where nothing but the task's head is trained.
    setting: of model, task and data; arms of one setting share what there is to gain.
    """

    method: str
    notches: float
    loss: float
    none: float
    setting: str = ""


def fit(arms: Sequence[Measured], source: str) -> dict[str, GainCurve]:
    """One curve for each method that was trained at two sizes or more, by least squares over all settings at once.

    Falls in loss are weighed by the largest of their setting, so that settings count alike.

    arms: of one setting or several.
    source: what they are, in words.

    Raises `PlanError` for numbers that are not finite, sizes below 0, no method with two sizes, and a setting in
    which nothing was gained.
    """
    import numpy
    from scipy.optimize import least_squares

    used, methods = _usable(arms)
    settings = list(dict.fromkeys(arm.setting for arm in used))
    best = {name: max(arm.none - arm.loss for arm in used if arm.setting == name) for name in settings}
    if wrong := [name for name, fall in best.items() if not fall > 0]:
        raise PlanError(f"no arm of {wrong[0] or 'the comparison'} is better than training nothing: no gain to fit")
    falls = numpy.array([(arm.none - arm.loss) / best[arm.setting] for arm in used])
    sizes = numpy.array([arm.notches for arm in used])
    method = numpy.array([methods.index(arm.method) for arm in used])
    setting = numpy.array([settings.index(arm.setting) for arm in used])

    def predicted(parameters: "NDArray[Any]") -> "NDArray[Any]":
        tops, halves, scales = numpy.split(parameters, [len(methods), 2 * len(methods)])
        # One scale is fixed at 1: only products of scale and ceiling are known.
        scale = numpy.concatenate([[1.0], numpy.exp(scales)])[setting]
        found: NDArray[Any] = scale * tops[method] * sizes / (sizes + numpy.exp(halves[method]))
        return found

    middles = [math.log(numpy.median(sizes[method == code])) for code in range(len(methods))]
    begin = numpy.array([1.0] * len(methods) + middles + [0.0] * (len(settings) - 1))
    low, high = (math.log(end) for end in HALVES)
    lower = [0.0] * len(methods) + [low] * len(methods) + [-5.0] * (len(settings) - 1)
    upper = [math.inf] * len(methods) + [high] * len(methods) + [5.0] * (len(settings) - 1)
    begin = numpy.clip(begin, lower, upper)
    solved = least_squares(lambda x: predicted(x) - falls, begin, bounds=(lower, upper), xtol=1e-12, ftol=1e-12)
    tops, halves, _ = numpy.split(solved.x, [len(methods), 2 * len(methods)])
    misses = solved.fun
    top = max(float(tops.max()), math.ulp(1.0))
    return {
        name: GainCurve(
            ceiling=float(tops[code]) / top,
            half=math.exp(float(halves[code])),
            spread=float(numpy.sqrt((misses[method == code] ** 2).mean())),
            source=source,
        )
        for code, name in enumerate(methods)
    }


def curves_for(
    given: Mapping[str, GainCurve | tuple[float, float]] | str | Path, methods: Iterable[str] | None, registry: Registry
) -> dict[str, GainCurve]:
    """The curves that a plan is to be made by, in place of those that its methods come with.

    given: by method, curves or ceilings and halves, which are taken as they are; or the directory of a run whose
        comparison measured them.
    methods: that the plan chooses from, as `layerlens_core.allocate` takes them.
    registry: of providers.

    Raises `FileError` where the run has no curves, and `PlanError` where it lacks one of the methods: ceilings count
    only beside each other, so that a measured one says nothing beside one that was assumed.
    """
    if not isinstance(given, str | Path):
        return {
            name: curve
            if isinstance(curve, GainCurve)
            else GainCurve(ceiling=curve[0], half=curve[1], spread=None, source="given")
            for name, curve in given.items()
        }
    gains, chosen = Gains.load(given), load_methods(registry, methods)
    if lacking := gains.lacking(chosen):
        arms = ",".join(f"method:{name}" for name in chosen if name != "none")
        raise PlanError(
            f"{given} has no gain curve of {', '.join(lacking)}, and those of {', '.join(sorted(gains.curves))} count "
            f"only beside each other; compare with --arms {arms} and two "
            "budgets or more"
        )
    return {name: curve for name, curve in gains.curves.items() if name in chosen}


def told_of_gains(request: Request, candidates: CandidateSet, registry: Registry) -> tuple[str, ...]:
    """What the predicted gains of a plan rest on, where it chooses between methods, or where they were measured.

    request: of the plan.
    candidates: that it chose from.
    registry: of providers.
    """
    offered = [name for name in candidates.table.methods if name != "none"]
    if len(offered) < 2 and not request.gains.keys() & set(offered):
        return ()
    by_source: dict[str, list[str]] = {}
    for name in offered:
        if (curve := request.gains.get(name)) is None:
            by_source.setdefault(registry.get("method", name).gain_source, []).append(name)
            continue
        spread = "" if curve.spread is None else f" ± {curve.spread:.2g}"
        words = f"{name} {curve.ceiling:.3g}·n/(n + {curve.half:.3g}){spread}"
        by_source.setdefault(curve.source, []).append(words)
    return tuple(f"gain curves of {', '.join(names)}: {source}" for source, names in by_source.items())


def _usable(arms: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """The arms of methods with two sizes, and these methods. Raises `PlanError`."""
    by_method: dict[str, set[float]] = {}
    for arm in arms:
        if not all(math.isfinite(number) for number in (arm.loss, arm.none, arm.notches)) or arm.notches < 0:
            raise PlanError(
                f"an arm of {arm.method} at {arm.notches:g} notches has a loss of {arm.loss:g}, beside {arm.none:g} of "
                "none; curves are fitted to finite numbers, so leave out what diverged"
            )
        if arm.notches > 0:
            by_method.setdefault(arm.method, set()).add(arm.notches)
    methods = sorted(method for method, sizes in by_method.items() if len(sizes) > 1)
    if not methods:
        raise PlanError("no method was trained at two sizes, so there is no curve to fit")
    return [arm for arm in arms if arm.method in methods and arm.notches > 0], methods
