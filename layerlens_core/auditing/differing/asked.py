"""What was asked of a plan, without what follows from the rest: a plan holds its request as it was resolved."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import frozen

from layerlens_core import tracing
from layerlens_core.allocation.problem import pose
from layerlens_core.auditing.differing.measured import metrics_of
from layerlens_core.auditing.differing.side import Side
from layerlens_core.errors import LayerLensError
from layerlens_core.plugin.registry import Registry
from layerlens_core.values.costs import Training
from layerlens_core.values.request import Request

#: Fields that are resolved, and what they are where nobody asked for anything.
_OPEN: Mapping[str, Callable[[Request], Any]] = {
    "weights": lambda _request: None,
    "methods": lambda _request: None,
    "granularity": lambda _request: None,
    "abstain": lambda _request: None,
    "penalties": lambda _request: {},
    "training": lambda request: attrs.evolve(request.training, dtype=None),
}


@frozen(kw_only=True)
class Asked:
    """Requests of two runs, where they differ.

    differing: by field, what each run asked for. A field that follows from others is none: of another strategy the
        granularity may be another, though nobody asked for it. Options go with their strategy.
    first: by field that is resolved differently, what the first run asked for; the rest of its request with these
        resolves to the plan's own, and to what follows where other inputs are taken.
    """

    differing: Mapping[str, tuple[Any, Any]]
    first: Mapping[str, Any]


def asked_of(first: Side, second: Side, registry: Registry) -> Asked:
    """What two runs asked for, where it differs.

    first: a run.
    second: the other.
    registry: of providers.
    """
    requests = first.plan.request, second.plan.request
    names = [each.name for each in attrs.fields(Request)]
    unlike = [name for name in names if getattr(requests[0], name) != getattr(requests[1], name)]
    asked = {name: (_asked(first, name, registry), _asked(second, name, registry)) for name in unlike}
    differing = {name: pair for name, pair in asked.items() if pair[0] != pair[1]}
    if "strategy" in differing:
        differing.pop("options", None)
    return Asked(differing=differing, first={name: pair[0] for name, pair in asked.items()})


def _asked(side: Side, name: str, registry: Registry) -> Any:
    request = side.plan.request
    given = getattr(request, name)
    if name not in _OPEN:
        return given
    left_open = _OPEN[name](request)
    try:
        with tracing.silenced():
            resolved = getattr(pose(side.profile, attrs.evolve(request, **{name: left_open}), registry).request, name)
    except LayerLensError:
        return given
    if name == "penalties":
        return {method: penalty for method, penalty in given.items() if resolved.get(method) != penalty}
    if name == "weights":  # what comes along with a warm-up, and has none, was not asked for
        asked = metrics_of(side.profile)
        given = {metric: weight for metric, weight in given.items() if weight or metric in asked}
        resolved = {metric: weight for metric, weight in resolved.items() if weight or metric in asked}
    return left_open if resolved == given else given


def described(name: str, asked: tuple[Any, Any], requests: tuple[Request, Request]) -> tuple[str, str]:
    """A field of both requests in words.

    name: of the field.
    asked: what each run asked for.
    requests: of the plans.
    """
    if name == "training":
        differ = [
            each.name for each in attrs.fields(Training) if getattr(asked[0], each.name) != getattr(asked[1], each.name)
        ]
        one, other = (", ".join(f"{each} {getattr(training, each)}" for each in differ) for training in asked)
        return one, other
    if name == "strategy":
        one, other = (
            f"{request.strategy} ({_words(request.options)})" if request.options else request.strategy
            for request in requests
        )
        return one, other
    return _words(asked[0]), _words(asked[1])


def _words(value: Any) -> str:
    if value is None or value in ({}, ()):
        return "by default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_word(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _word(value: Any) -> str:
    if hasattr(value, "ceiling"):
        return f"{value.ceiling:.4g}·n/(n + {value.half:.4g})"
    return f"{value:g}" if isinstance(value, float) else str(value)
