"""Methods by thresholds on utility, sizes by utility within the budget.

Thresholds ascend over methods in ascending capacity (none < prefix < adapter < lora); a utility on a
threshold reaches the upper method. They are given, or taken as quantiles of the utilities at hand. Sizes are
apportioned in proportion to utility, and what is left over refines single modules of the most useful layers.
"""

from collections.abc import Sequence

from layerlens_core import tracing
from layerlens_core.allocation import Context
from layerlens_core.apportionment import Claim, apportion
from layerlens_core.budget import Limits
from layerlens_core.candidates import CandidateSet, Unit
from layerlens_core.decisions import Decision
from layerlens_core.errors import BudgetError, PlanError
from layerlens_native.threshold import quantile
from layerlens_native.threshold import select as reach

#: By default the least useful tenth of the layers stays frozen: starving layers is costly, so it must be earned.
FROZEN_SHARE = 0.1


def select(candidates: CandidateSet, limits: Limits, context: Context) -> list[Decision]:
    """A method for every unit by thresholds, then sizes that fit the limits.

    Options: ``thresholds`` (utilities) or ``quantiles`` (0 to 1), ascending, comma-separated, one fewer than
    there are methods.
    """
    utilities = [unit.utility for unit in candidates.units]
    thresholds, origin = _thresholds(candidates.methods, utilities, context)
    tracing.thresholds_set(candidates.methods, thresholds, origin)
    reached = [candidates.methods[index] for index in reach(utilities, thresholds)]
    methods = [
        _attachable(unit, method, candidates.methods) for unit, method in zip(candidates.units, reached, strict=True)
    ]
    refused = _drop_unaffordable(candidates.units, methods, limits)
    sizes = _sizes(candidates.units, methods, limits)
    equal = len(set(utilities)) == 1 and len(utilities) > 1
    decisions = []
    for index, unit in enumerate(candidates.units):
        runner_up, margin = _alternative(unit.utility, candidates.methods, thresholds)
        decisions.append(
            unit.decide(
                methods[index],
                min(sizes[index].values(), default=0),
                sizes=sizes[index],
                reason=_reason(
                    unit, methods[index], reached[index], candidates.methods, thresholds, index in refused, equal
                ),
                runner_up=runner_up,
                margin=margin,
            )
        )
    return decisions


def _thresholds(methods: Sequence[str], utilities: Sequence[float], context: Context) -> tuple[list[float], str]:
    if "thresholds" in context.options and "quantiles" in context.options:
        raise PlanError("give thresholds or quantiles, not both")
    boundaries = len(methods) - 1
    if "thresholds" in context.options:
        return _numbers(context.options["thresholds"], "thresholds", methods), "given"
    if "quantiles" in context.options:
        shares = _numbers(context.options["quantiles"], "quantiles", methods)
        if not all(0 <= share <= 1 for share in shares):
            raise PlanError(f"quantiles lie between 0 and 1: {context.options['quantiles']}")
    else:
        shares = [FROZEN_SHARE + (1 - FROZEN_SHARE) * i / boundaries for i in range(boundaries)]
    named = ", ".join(f"{share:g}" for share in shares)
    return [quantile(utilities, share) for share in shares], f"quantiles {named} of the utilities"


def _numbers(text: str, what: str, methods: Sequence[str]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise PlanError(f"{what} must be numbers separated by commas, but are {text!r}") from None
    if len(numbers) != len(methods) - 1:
        raise PlanError(
            f"{len(methods)} methods ({' < '.join(methods)}) need {len(methods) - 1} {what}, "
            f"but there are {len(numbers)}: {text}"
        )
    if any(number != number for number in numbers) or sorted(numbers) != numbers:
        raise PlanError(f"{what} must ascend from {methods[0]} to {methods[-1]}: {text}")
    return numbers


def _attachable(unit: Unit, method: str, methods: Sequence[str]) -> str:
    """The method, or the next lower one that can attach here."""
    for lower in reversed(methods[: methods.index(method) + 1]):
        if unit.offers(lower):
            if lower != method:
                tracing.candidate_refused(unit.name, method, "it cannot attach to this layer")
            return lower
    return "none"


def _drop_unaffordable(units: Sequence[Unit], methods: list[str], limits: Limits) -> set[int]:
    """Freeze the least useful units until every other one can have its smallest size; edits ``methods``."""
    if limits.parameters is None:
        return set()
    least = [unit.cheapest(method).parameters for unit, method in zip(units, methods, strict=True)]
    dropped: set[int] = set()
    for index in sorted(range(len(units)), key=lambda i: (units[i].utility, -i)):
        if sum(least) <= limits.parameters:
            break
        if methods[index] == "none":
            continue
        tracing.candidate_refused(
            units[index].name,
            methods[index],
            f"the budget of {limits.parameters} cannot give every layer above it its smallest size ({sum(least)})",
        )
        methods[index], least[index] = "none", 0
        dropped.add(index)
    return dropped


def _sizes(units: Sequence[Unit], methods: Sequence[str], limits: Limits) -> list[dict[str, int]]:
    """Size by module for every unit: notches in proportion to utility, then what is left, module by module."""
    trained = [index for index, method in enumerate(methods) if method != "none"]
    claims = [_claim(units[index], methods[index]) for index in trained]
    try:
        notches = apportion(claims, limits.parameters)
    except ValueError as error:  # pragma: no cover - _drop_unaffordable sees to it
        raise BudgetError(str(error)) from error
    sizes: list[dict[str, int]] = [{} for _ in units]
    for index, count in zip(trained, notches, strict=True):
        unit, method = units[index], methods[index]
        sizes[index] = {target.name: count * unit.notches[method] for target in unit.targets[method]}
    if limits.parameters is not None:
        spent = sum(c.price + (n - 1) * c.step for c, n in zip(claims, notches, strict=True))
        _refine(units, methods, sizes, limits.parameters - spent)
    return sizes


def _claim(unit: Unit, method: str) -> Claim:
    sizes, notch = unit.sizes(method), unit.notches[method]
    targets = unit.targets[method]
    return Claim(
        utility=max(unit.utility, 0.0),
        price=sum(target.parameters(notch) for target in targets),
        step=sum(target.per_size * notch for target in targets),
        most=len(sizes),
        group=method,
    )


def _refine(units: Sequence[Unit], methods: Sequence[str], sizes: list[dict[str, int]], left: int) -> None:
    """Raise single modules by a notch, in rounds, until nothing more fits.

    The most useful layers come first, and in them the most important modules.
    """
    raised = True
    while raised:
        raised = False
        for index in sorted(range(len(units)), key=lambda i: (-units[i].utility, i)):
            unit, method = units[index], methods[index]
            if method == "none":
                continue
            notch, largest = unit.notches[method], max(unit.sizes(method))
            for target in sorted(unit.targets[method], key=lambda t: -unit.importance.get(t.name, 0.0)):
                if sizes[index][target.name] < largest and target.per_size * notch <= left:
                    sizes[index][target.name] += notch
                    left -= target.per_size * notch
                    raised = True


def _reason(
    unit: Unit,
    method: str,
    reached: str,
    methods: Sequence[str],
    thresholds: Sequence[float],
    refused: bool,
    equal: bool,
) -> str:
    at = methods.index(reached)
    bounds = []
    if at > 0:
        bounds.append(f"at or above {thresholds[at - 1]:.4g}")
    if at < len(thresholds):
        bounds.append(f"below {thresholds[at]:.4g}")
    words = f"utility {unit.utility:.4g} is {' and '.join(bounds)}: {reached}"
    if equal:
        words += "; all utilities are equal, so all layers get one method"
    if refused:
        return words + "; refused, as the budget cannot give every layer above it its smallest size"
    if method != reached:
        return words + f"; {reached} cannot attach to this layer, so {method}"
    return words


def _alternative(
    utility: float, methods: Sequence[str], thresholds: Sequence[float]
) -> tuple[str | None, float | None]:
    """The method beyond the nearest threshold, and how far away that threshold is."""
    at = reach([utility], thresholds)[0]
    beyond = []
    if at > 0:
        beyond.append((utility - thresholds[at - 1], methods[at - 1]))
    if at < len(thresholds):
        beyond.append((thresholds[at] - utility, methods[at + 1]))
    if not beyond:
        return None, None
    margin, runner_up = min(beyond)
    return runner_up, margin
