"""Every event that LayerLens emits, with what its fields mean and may be: the schema of a trace.

docs/trace.md shows this table; a test holds the two together, and another the functions that emit.
An event whose name has a colon, ``PLUGIN:what``, is a plugin's own and may hold anything.
"""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from layerlens_core.files.trace import kinds
from layerlens_core.files.trace.kinds import Kind

#: Named in a trace's first line. The version is raised whenever an event or a field changes.
SCHEMA, VERSION = "layerlens/trace", 1
#: The first line and the last, which are the file's own.
OPENED, SEALED = "trace.opened", "trace.sealed"
#: Divides a plugin's name from what its own event tells.
FOREIGN = ":"

Event = Mapping[str, Any]


def _thresholds(event: Event) -> str | None:
    return None if len(event["methods"]) == len(event["thresholds"]) + 1 else "thresholds"


def _metrics(event: Event) -> str | None:
    wrong = [name for name in ("normalized", "weights") if event[name].keys() != event["raw"].keys()]
    wrong += ["weights"] * (not sum(event["weights"].values()) > 0)
    wrong += ["errors"] * (not event["errors"].keys() <= event["raw"].keys())
    return wrong[0] if wrong else None


def _settled(event: Event) -> str | None:
    return None if event["spent"].keys() >= event["limits"].keys() else "spent"


@frozen
class Field:
    """One field of an event.

    kind: what it may be.
    meaning: in words.
    """

    kind: Kind
    meaning: str


@frozen(kw_only=True)
class EventType:
    """All events of one name.

    meaning: what such an event tells, in words.
    fields: by name, besides those of `COMMON`.
    of_profile: whether it tells of profiling, and so stays in the trace when the run is allocated anew.
    unlike: the name of a field that does not belong to the others, where there is one.
    """

    meaning: str
    fields: Mapping[str, Field]
    of_profile: bool = False
    unlike: Callable[[Event], str | None] = field(default=lambda _event: None)


#: What every line but the first and the last holds besides.
COMMON: Mapping[str, Field] = {
    "event": Field(kinds.TEXT, "its name"),
    "run_id": Field(kinds.TEXT, "of the command, or of the capture, that wrote it"),
    "timestamp": Field(kinds.TIME, "when it was emitted"),
}

EVENTS: Mapping[str, EventType] = {
    OPENED: EventType(
        meaning="the first line, and by what to read the others",
        fields={
            "schema": Field(kinds.TEXT, f"``{SCHEMA}``"),
            "version": Field(kinds.COUNT, "of the schema"),
        },
    ),
    "run.started": EventType(
        meaning="a command began",
        of_profile=True,
        fields={
            "command": Field(kinds.TEXT, "its name, such as ``plan``"),
            "arguments": Field(kinds.ANYTHING_BY_NAME, "by name, as they were given"),
            "versions": Field(kinds.TEXT_BY_NAME, "of Python and of the packages that the numbers depend on"),
        },
    ),
    "plugin.loaded": EventType(
        meaning="a plugin was found and loaded",
        of_profile=True,
        fields={
            "plugin": Field(kinds.TEXT, "the name of its entry point"),
            "distribution": Field(kinds.TEXT, "that it came in"),
            "version": Field(kinds.TEXT, "of the distribution; empty where it has none"),
        },
    ),
    "plugin.failed": EventType(
        meaning="a plugin was found and not loaded",
        of_profile=True,
        fields={
            "plugin": Field(kinds.TEXT, "the name of its entry point"),
            "distribution": Field(kinds.TEXT, "that it came in"),
            "version": Field(kinds.TEXT, "of the distribution; empty where it has none"),
            "status": Field(kinds.TEXT, "``failed``, or ``blocked`` by name"),
            "cause": Field(kinds.TEXT, "why, in words"),
        },
    ),
    "plugin.conflict": EventType(
        meaning="two plugins provide the same name",
        of_profile=True,
        fields={"cause": Field(kinds.TEXT, "which two, and which name")},
    ),
    "profile.finished": EventType(
        meaning="the model was profiled",
        of_profile=True,
        fields={
            "digest": Field(kinds.TEXT, "SHA-256 of ``profile.json``, in hexadecimal"),
            "parts": Field(
                kinds.TEXT_BY_NAME, "by field of ``profile.json``, the beginning of the SHA-256 of its JSON"
            ),
            "task": Field(kinds.TEXT, "what it is trained for, such as ``causal-lm``"),
            "samples": Field(kinds.COUNT, "how many counted"),
            "loss": Field(kinds.NUMBER, "their mean loss, in nats"),
            "data": Field(kinds.TEXT, "digest of the samples"),
            "settings": Field(kinds.ANYTHING_BY_NAME, "what else the numbers depend on, such as the seed"),
        },
    ),
    "module.unscored": EventType(
        meaning="a module, or a layer, has no score",
        of_profile=True,
        fields={"module": Field(kinds.TEXT, "its name"), "reason": Field(kinds.TEXT, "why, in words")},
    ),
    "metric.scored": EventType(
        meaning="a metric's raw score of one module or layer",
        of_profile=True,
        fields={
            "metric": Field(kinds.TEXT, "its name"),
            "unit": Field(kinds.TEXT, "name of the module or layer"),
            "granularity": Field(kinds.TEXT, "``module`` or ``layer``: what the unit is"),
            "raw": Field(kinds.NUMBER, "the score, not normalised"),
            "measure": Field(kinds.TEXT, "what it is measured in"),
        },
    ),
    "utility.computed": EventType(
        meaning="the utility of one layer (or module), and all that it follows from",
        unlike=_metrics,
        fields={
            "unit": Field(kinds.TEXT, "name of the layer or module"),
            "utility": Field(kinds.NUMBER, "what the strategy decides by"),
            "raw": Field(kinds.NUMBER_BY_NAME, "by metric, raw scores"),
            "normalized": Field(kinds.NUMBER_BY_NAME, "by metric, normalised scores"),
            "weights": Field(kinds.NUMBER_BY_NAME, "by metric; the combination divides by their sum"),
            "normalizer": Field(kinds.TEXT, "which was applied"),
            "aggregator": Field(kinds.TEXT, "name of the provider that combined the normalised scores"),
            "errors": Field(kinds.NUMBER_BY_NAME, "by metric that has them, standard errors of the raw scores"),
        },
    ),
    "gain.measured": EventType(
        meaning="the curve by which a method's gains were predicted in place of its own: ceiling · n / (n + half)",
        fields={
            "method": Field(kinds.TEXT, "its name"),
            "ceiling": Field(kinds.NUMBER, "the share of a layer's gain that it reaches at any size"),
            "half": Field(kinds.NUMBER, "the notches of size at which it reaches half of that"),
            "spread": Field(
                kinds.or_none(kinds.NUMBER), "root mean square of what the curve misses; null where unknown"
            ),
            "source": Field(kinds.TEXT, "what the curve rests on, in words"),
        },
    ),
    "thresholds.set": EventType(
        meaning="the utilities at which one method takes over from another",
        unlike=_thresholds,
        fields={
            "methods": Field(kinds.TEXTS, "in ascending capacity"),
            "thresholds": Field(kinds.NUMBERS, "between one method and the next, so one fewer than methods"),
            "origin": Field(kinds.TEXT, "where they come from, in words"),
        },
    ),
    "candidates.built": EventType(
        meaning="what there is to choose from",
        fields={
            "methods": Field(kinds.TEXTS, "in ascending capacity"),
            "units": Field(kinds.COUNT, "how many layers are decided on"),
            "candidates": Field(kinds.COUNT, "of all of them together"),
            "cheapest": Field(
                kinds.or_none(kinds.COUNT), "parameters of the cheapest that trains anything; null without any"
            ),
        },
    ),
    "candidate.refused": EventType(
        meaning="a layer did not get a method, or a size, that it would have got",
        fields={
            "unit": Field(kinds.TEXT, "name of the layer"),
            "method": Field(kinds.TEXT, "that it did not get"),
            "cause": Field(kinds.TEXT, "why, in words"),
        },
    ),
    "decision.made": EventType(
        meaning="what one layer gets",
        fields={
            "unit": Field(kinds.TEXT, "name of the layer"),
            "method": Field(kinds.TEXT, "its name"),
            "size": Field(kinds.COUNT, "rank, bottleneck width or prefix length; 0 for ``none``"),
            "sizes": Field(kinds.COUNT_BY_NAME, "by place that the method attaches to"),
            "utility": Field(kinds.NUMBER, "of the layer"),
            "parameters": Field(kinds.COUNT, "that train there"),
            "reason": Field(kinds.TEXT, "in words"),
            "runner_up": Field(kinds.or_none(kinds.TEXT), "the method that came next; null without any"),
            "margin": Field(
                kinds.or_none(kinds.NUMBER),
                "the signed change of the utility after which the method would change; null where unknown",
            ),
        },
    ),
    "margins.left_out": EventType(
        meaning="how far layers are from another method was not looked for",
        fields={"cause": Field(kinds.TEXT, "why, in words")},
    ),
    "budget.settled": EventType(
        meaning="what was asked for, allowed and spent; limits and spending include the frozen model",
        unlike=_settled,
        fields={
            "asked": Field(kinds.TEXT, "as it was written, such as ``params=r=8``; ``unlimited`` without any bound"),
            "limits": Field(kinds.AMOUNTS, "of each resource that is bounded"),
            "spent": Field(kinds.AMOUNTS, "of each resource"),
        },
    ),
    "budget.certificate": EventType(
        meaning="how near a plan is to the best",
        fields={
            "value": Field(kinds.NUMBER, "the sum of predicted gains"),
            "bound": Field(kinds.NUMBER, "what no plan can exceed"),
            "gap": Field(kinds.NUMBER, "the bound less the value"),
            "exact": Field(kinds.TRUTH, "whether an optimum was searched for"),
        },
    ),
    "plan.made": EventType(
        meaning="the plan is complete",
        fields={
            "digest": Field(kinds.TEXT, "SHA-256 of ``plan.json``, in hexadecimal"),
            "parts": Field(kinds.TEXT_BY_NAME, "by field of ``plan.json``, the beginning of the SHA-256 of its JSON"),
            "parameters": Field(kinds.COUNT, "trainable, of the methods"),
            "heads": Field(kinds.COUNT, "trainable, of the task heads, which come on top"),
        },
    ),
    "run.finished": EventType(
        meaning="the command ended well",
        fields={"seconds": Field(kinds.NUMBER, "that it took")},
    ),
    SEALED: EventType(
        meaning="the last line, by which every change of the others, and a missing end, is seen",
        fields={
            "lines": Field(kinds.COUNT, "that stand before it, the first included"),
            "sha256": Field(kinds.DIGEST, "of all bytes before it"),
        },
    ),
}


def fields_of(name: str) -> Mapping[str, Field]:
    """All fields of an event of ours, those of all events included.

    name: of the event; it is in `EVENTS`.
    """
    common = {"event": COMMON["event"]} if name in (OPENED, SEALED) else COMMON
    return {**common, **EVENTS[name].fields}


def wrong_event(event: Event) -> str | None:
    """What is wrong with an event, in words that follow "line 7"; None where nothing is.

    event: as it was read, with a text ``event``.
    """
    name = event["event"]
    foreign = FOREIGN in name.strip(FOREIGN)
    if not foreign and name not in EVENTS:
        return f"is of an event {name!r}, which a trace of version {VERSION} does not have"
    fields = COMMON if foreign else fields_of(name)
    for field_name, told in fields.items():
        if field_name not in event:
            return f"lacks the field {field_name!r} of {name}"
        if not told.kind.holds(event[field_name]):
            return f"has a field {field_name!r} that {name} cannot have; it is: {told.kind.words}"
    if foreign:
        return None
    if unknown := sorted(event.keys() - fields.keys()):
        return f"has a field {unknown[0]!r}, which {name} does not have"
    unlike = EVENTS[name].unlike(event)
    return f"has a field {unlike!r} that does not belong to its others" if unlike else None
