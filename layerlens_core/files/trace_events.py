"""What the events of a trace hold, field by field, for whoever reads one.

Events of other names pass, as a later version or a plugin may write some; nothing reads them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

#: Says whether a value is of its kind.
Kind = Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _anything(_value: object) -> bool:
    return True


def _or_none(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _by_name(kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def _list_of(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _resources(value: object) -> bool:
    return _by_name(_number)(value) and isinstance(value, dict) and value.keys() <= RESOURCES


def _thresholds(event: Mapping[str, Any]) -> str | None:
    return None if len(event["methods"]) == len(event["thresholds"]) + 1 else "thresholds"


def _metrics(event: Mapping[str, Any]) -> str | None:
    wrong = (name for name in ("normalized", "weights") if event[name].keys() != event["raw"].keys())
    return next(wrong, None) or (None if sum(event["weights"].values()) > 0 else "weights")


def _settled(event: Mapping[str, Any]) -> str | None:
    return None if event["spent"].keys() >= event["limits"].keys() else "spent"


#: As in `layerlens_core.values.costs`, which lies above.
RESOURCES = {"params", "flops", "memory", "latency"}

#: By event, its fields and what each has to be; and what they have to be together.
FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "run.started": {"command": _text, "arguments": _by_name(_anything), "versions": _by_name(_text)},
    "profile.finished": {
        "digest": _text, "task": _text, "samples": _count, "loss": _number, "data": _text,
        "settings": _by_name(_anything),
    },
    "module.unscored": {"module": _text, "reason": _text},
    "metric.scored": {"metric": _text, "unit": _text, "granularity": _text, "raw": _number, "measure": _text},
    "utility.computed": {
        "unit": _text, "utility": _number, "raw": _by_name(_number), "normalized": _by_name(_number),
        "weights": _by_name(_number), "normalizer": _text, "aggregator": _text,
    },
    "gain.measured": {
        "method": _text, "ceiling": _number, "half": _number, "spread": _or_none(_number), "source": _text,
    },
    "thresholds.set": {"methods": _list_of(_text), "thresholds": _list_of(_number), "origin": _text},
    "candidate.refused": {"unit": _text, "method": _text, "cause": _text},
    "decision.made": {
        "unit": _text, "method": _text, "size": _count, "sizes": _by_name(_count), "utility": _number,
        "parameters": _count, "reason": _text, "runner_up": _or_none(_text), "margin": _or_none(_number),
    },
    "budget.settled": {"asked": _text, "limits": _resources, "spent": _resources},
    "plan.made": {"digest": _text},
    "margins.left_out": {"cause": _text},
}  # fmt: skip
_TOGETHER: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "thresholds.set": _thresholds,
    "utility.computed": _metrics,
    "budget.settled": _settled,
}


def wrong_field(event: Mapping[str, Any]) -> str | None:
    """What is wrong with an event, in words that follow "line 7"; None where nothing is."""
    name = event["event"]
    for field, kind in FIELDS.get(name, {}).items():
        if field not in event:
            return f"lacks the field {field!r} of {name}"
        if not kind(event[field]):
            return f"has a field {field!r} that {name} cannot have"
    unlike = _TOGETHER[name](event) if name in _TOGETHER else None
    return f"has a field {unlike!r} that does not belong to its others" if unlike else None
